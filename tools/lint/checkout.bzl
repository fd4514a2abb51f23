"""The whole checkout as one file, for tests about the whole tree (linters, house rules).

A BUILD file sees its own package only. This repository rule watches the tree instead, and packs it into one
archive that depends on nothing but the files' names, contents and executable bits, so that Bazel caches those tests.
"""

_IGNORED = [".git", ".bazel", ".venv", "node_modules", "user.bazelrc", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"]

def _checkout_impl(rctx):
    root = rctx.path(rctx.attr._workspace).dirname
    names = []
    for entry in root.readdir(watch = "yes"):
        name = entry.basename
        if name in _IGNORED or name.startswith("bazel-"):
            continue
        names.append(name)
        if entry.is_dir:
            rctx.watch_tree(entry)
        else:
            rctx.watch(entry)
    python = rctx.read(rctx.attr._python).split("\n")[0]
    command = [python, "-I", rctx.path(rctx.attr._tool), "--root", root, "--out", "tree.tar", "--packages", "packages.bzl"]
    res = rctx.execute(command + sorted(names), environment = {"PYTHONDONTWRITEBYTECODE": "1"})
    if res.return_code:
        fail("the checkout could not be packed:\n%s%s" % (res.stdout, res.stderr))
    rctx.file("WORKSPACE", "")
    rctx.file("BUILD", 'exports_files(["tree.tar"])\n')

checkout = repository_rule(
    implementation = _checkout_impl,
    attrs = {
        "_python": attr.label(
            allow_single_file = True,
            default = "@local_python//:python.txt",
        ),
        "_tool": attr.label(
            allow_single_file = True,
            default = "//tools/lint:pack_tree.py",
        ),
        "_workspace": attr.label(
            allow_single_file = True,
            default = "//:WORKSPACE",
        ),
    },
    doc = "Makes @<name>//:tree.tar, and @<name>//:packages.bzl with the labels of all generated proto libraries.",
)
