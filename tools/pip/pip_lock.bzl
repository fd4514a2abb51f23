"""One external repository out of a hash-locked requirements file: wheels only, nothing installed."""

# What pip may read of the environment: where to look, never what to accept.
_ENVIRON = ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CERT", "PIP_PROXY"]

def _pip_lock_impl(rctx):
    python = rctx.read(rctx.attr._python).split("\n")[0]
    lock = rctx.path(rctx.attr.lock)
    tool = rctx.path(rctx.attr._tool)
    rctx.report_progress("downloading wheels by hash")
    res = rctx.execute(
        [python, "-I", tool, "--lock", lock, "--out", rctx.path(".")],
        timeout = 1800,
        environment = {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    if res.return_code:
        fail("the wheels of %s could not be fetched:\n%s\n%s" % (rctx.attr.lock, res.stdout[-4000:], res.stderr[-4000:]))

pip_lock = repository_rule(
    implementation = _pip_lock_impl,
    attrs = {
        "lock": attr.label(
            allow_single_file = True,
            doc = "requirements.lock: name==version with sha256 hashes.",
            mandatory = True,
        ),
        "_python": attr.label(
            allow_single_file = True,
            default = "@local_python//:python.txt",
        ),
        "_tool": attr.label(
            allow_single_file = True,
            default = "//tools/pip:unpack_lock.py",
        ),
    },
    environ = _ENVIRON,
    doc = "Makes @<name>//<dist> (a py_library with its dependencies) and @<name>//<dist>:bin (programs in the wheel).",
)
