"""Programs out of Debian packages: downloaded by hash, unpacked without root, installed nowhere."""

load("//tools/dev/servers:fetching.bzl", "build_file", "fetch")

# What the outcome of tools.debian.fetch depends on.
FETCHER = ["//tools/debian:%s.py" % name for name in ("archive", "fetch", "lock", "unpack")]

def fetch_debian(rctx, lock):
    """Fills root/ and versions.txt of the repository; tells whether it succeeded."""
    return fetch(
        rctx,
        "tools.debian.fetch",
        ["--lock", rctx.path(lock), "--out", rctx.path(".")],
        inputs = [lock] + [Label(f) for f in FETCHER],
    )

def _debian_packages_impl(rctx):
    fetch_debian(rctx, rctx.attr.lock)
    build_file(rctx, {"files": ["root", "versions.txt"]})

debian_packages = repository_rule(
    doc = """The unpacked packages of a lock (tools/debian/lock.py): `:files` holds root/ and versions.txt.""",
    implementation = _debian_packages_impl,
    attrs = {"lock": attr.label(mandatory = True, allow_single_file = True)},
    environ = ["WELLSPRING_DEBIAN_MIRRORS", "WELLSPRING_DEBIAN_STALE_INDEX"],
)

def _debian_dependencies_impl(rctx):
    arguments = ["--suite", rctx.attr.suite, "--out", rctx.path("packages.txt")]
    inputs = [Label("//tools/debian:%s.py" % name) for name in ("archive", "dependencies", "lock")]
    fetch(rctx, "tools.debian.dependencies", arguments, inputs = inputs)
    build_file(rctx, {"files": ["packages.txt"]})

debian_dependencies = repository_rule(
    doc = """What Debian's packages depend on, as of the day when it was fetched: `:files` holds packages.txt.""",
    implementation = _debian_dependencies_impl,
    attrs = {"suite": attr.string(mandatory = True)},
    environ = ["WELLSPRING_DEBIAN_MIRRORS", "WELLSPRING_DEBIAN_STALE_INDEX"],
)
