"""Programs written in JavaScript, as one repository for each lock: @NAME//:files has node and node_modules.

To add one: a folder with a package.json that names exact versions, and the package-lock.json that
`npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved` makes of it.
"""

load("//tools/dev/servers:fetching.bzl", "build_file", "fetch")

def _npm_packages_impl(rctx):
    arguments = ["--manifest", rctx.path(rctx.attr.manifest), "--lock", rctx.path(rctx.attr.lock), "--out", rctx.path(".")]
    inputs = [rctx.attr.manifest, rctx.attr.lock, rctx.attr._fetcher, rctx.attr._node]
    fetch(rctx, "tools.npm.fetch", arguments, inputs = inputs)

    # The packages are one directory: their files have names that a label cannot have.
    build_file(rctx, {"files": ["bin/node", "node_modules"]})

npm_packages = repository_rule(
    doc = """Packages of a package-lock.json, each checked against its hash, and the Node.js that runs them.

    `:files` holds bin/node and the directory node_modules, or, when they cannot be had, the one file UNAVAILABLE with
    the reason.
    """,
    implementation = _npm_packages_impl,
    attrs = {
        "lock": attr.label(allow_single_file = True, mandatory = True),
        "manifest": attr.label(allow_single_file = True, mandatory = True),
        "_fetcher": attr.label(default = "//tools/npm:fetch.py", allow_single_file = True),
        "_node": attr.label(default = "//tools/npm:node.lock", allow_single_file = True),
    },
)
