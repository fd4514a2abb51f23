"""The runtime class path of Maven coordinates, every jar checked against a committed lock."""

load("//tools/dev/servers:fetching.bzl", "build_file", "fetch", "unavailable", "why_unavailable")
load(":java.bzl", "java_path")

def _maven_jars_impl(rctx):
    reason = why_unavailable(rctx, rctx.attr._java) or why_unavailable(rctx, rctx.attr._mvn)
    if reason:
        unavailable(rctx, reason)
    else:
        mvn = rctx.read(rctx.attr._mvn).strip()
        fetch(
            rctx,
            "tools.maven.fetch",
            [
                "--lock",
                rctx.path(rctx.attr.lock),
                "--out",
                rctx.path("."),
                "--java",
                java_path(rctx, rctx.attr._java),
            ] + (["--mvn", mvn] if mvn else ["--maven-root", str(rctx.path(rctx.attr._mvn).dirname) + "/root"]),
            inputs = [rctx.attr.lock] + rctx.attr._fetcher,
        )
    build_file(rctx, {"files": ["jars"]})

maven_jars = repository_rule(
    doc = "jars/: the runtime dependencies of a lock's artifacts (tools/maven/lock.py); `:files` holds the folder.",
    implementation = _maven_jars_impl,
    attrs = {
        "lock": attr.label(mandatory = True, allow_single_file = True),
        "_fetcher": attr.label_list(
            default = ["//tools/maven:%s.py" % name for name in ("fetch", "lock", "truststore")],
            allow_files = True,
        ),
        "_java": attr.label(default = "@java_runtime//:java.txt", allow_single_file = True),
        "_mvn": attr.label(default = "@maven_client//:mvn.txt", allow_single_file = True),
    },
)
