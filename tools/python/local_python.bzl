"""A repository with the py_runtime for the Python found on this machine."""

_CODE = """
import json, os, sys
print(json.dumps(dict(exe=os.path.realpath(sys.executable), v=list(sys.version_info[:3]))))
"""

# -S: packages installed on the machine are not visible to what Bazel runs.
_WRAPPER = """#!/bin/sh
exec "{exe}" -S "$@"
"""

_BUILD = """load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

exports_files([
    "python",
    "python.txt",
])

py_runtime(
    name = "py3",
    interpreter = ":python",
    python_version = "PY3",
    stub_shebang = "#!{exe} -S",
    visibility = ["//visibility:public"],
)

py_runtime_pair(
    name = "pair",
    py3_runtime = ":py3",
)

toolchain(
    name = "toolchain",
    toolchain = ":pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

def _find(rctx):
    """The absolute path of a suitable interpreter and its version, or a failure that names what was tried."""
    explicit = rctx.os.environ.get("WELLSPRING_PYTHON", "")
    names = [explicit] if explicit else ["python3.11", "python3", "python3.12", "python3.13"]
    want = [int(x) for x in rctx.attr.minimum.split(".")]
    tried = []
    for name in names:
        path = name if name.startswith("/") else rctx.which(name)
        if not path:
            tried.append("%s: not on PATH" % name)
            continue
        res = rctx.execute([path, "-I", "-c", _CODE])
        if res.return_code:
            tried.append("%s: exit code %d" % (path, res.return_code))
            continue
        info = json.decode(res.stdout)
        version = ".".join([str(x) for x in info["v"]])
        if info["v"][:len(want)] >= want:
            return info["exe"], version
        tried.append("%s: version %s" % (path, version))
    fail("no Python >= %s found (%s). Install one (apt-get install python3 python3-pip) or name it in WELLSPRING_PYTHON." %
         (rctx.attr.minimum, "; ".join(tried)))

def _local_python_impl(rctx):
    exe, version = _find(rctx)
    rctx.file("WORKSPACE", "")
    rctx.file("BUILD", _BUILD.format(exe = exe))
    rctx.file("python", _WRAPPER.format(exe = exe), executable = True)
    rctx.file("python.txt", exe + "\n" + version + "\n", executable = False)

local_python = repository_rule(
    implementation = _local_python_impl,
    attrs = {"minimum": attr.string(default = "3.11", doc = "The oldest version that will do.")},
    environ = ["WELLSPRING_PYTHON"],
    configure = True,
    doc = "Finds Python on PATH (or in WELLSPRING_PYTHON) and makes it the toolchain.",
    local = True,
)
