"""Whether a server that cannot be had fails the tests that need it, or lets them skip."""

def _server_policy_impl(rctx):
    environment = rctx.os.environ
    required = environment.get("CI") == "true" or environment.get("WELLSPRING_REQUIRE_SERVERS") == "1"
    rctx.file("required.txt", "1\n" if required else "0\n", executable = False)
    rctx.file(
        "BUILD",
        'filegroup(name = "files", srcs = ["required.txt"], visibility = ["//visibility:public"])\n',
        executable = False,
    )
    rctx.file("WORKSPACE", "", executable = False)

server_policy = repository_rule(
    doc = """required.txt holds 1 where servers are required (CI=true or WELLSPRING_REQUIRE_SERVERS=1), else 0.

    A repository of its own, so that a change of the environment makes anew this file and no server.
    """,
    implementation = _server_policy_impl,
    environ = ["CI", "WELLSPRING_REQUIRE_SERVERS"],
)
