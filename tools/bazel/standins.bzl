"""Stand-ins for the repositories that @bazel_tools (Bazel 7.7) and BUILD files load by name.

Declared in WORKSPACE they win over Bazel's own downloads: nothing comes from outside that is not pinned there.
The native rules do the work.
"""

def _standin_impl(rctx):
    rctx.file("WORKSPACE", "")
    for path, text in rctx.attr.files.items():
        if path.endswith(".bzl"):
            folder = path.rpartition("/")[0]
            rctx.file(folder + "/BUILD" if folder else "BUILD", "")
        rctx.file(path, text)

_standin = repository_rule(
    implementation = _standin_impl,
    attrs = {"files": attr.string_dict(doc = "Path to text.")},
)

def _native(*rules):
    return "".join(["%s = native.%s\n" % (r, r) for r in rules])

def _groups(*names):
    return 'package(default_visibility = ["//visibility:public"])\n' + "".join(['filegroup(name = "%s")\n' % n for n in names])

def bazel_standins():
    """Declares them all."""

    # Every build and test.
    _standin(name = "bazel_skylib", files = {
        "bzl_library.bzl": "def bzl_library(name, **_kwargs):\n    native.filegroup(name = name)\n",
    })
    _standin(name = "rules_cc", files = {"cc/defs.bzl": _native("cc_library", "cc_toolchain", "cc_toolchain_suite")})
    _standin(name = "rules_proto", files = {"proto/defs.bzl": _native("proto_library")})
    _standin(name = "rules_python", files = {"python/defs.bzl": _native("py_binary", "py_library", "py_test")})

    # `query deps(...)` besides: its graph holds alternatives that are never built.
    _standin(name = "rules_license", files = {
        "rules/license.bzl": "def license(name, **_kwargs):\n    native.filegroup(name = name, applicable_licenses = [])\n",
    })
    _standin(name = "zlib", files = {"BUILD": _groups("zlib")})
    _standin(name = "com_google_protobuf", files = {
        "BUILD": _groups("protoc", "cc_toolchain", "java_toolchain", "javalite_toolchain"),
    })
    _standin(name = "remote_coverage_tools", files = {
        "BUILD": _groups("Main", "coverage_report_generator", "lcov_merger"),
    })
