"""A C++ toolchain that compiles nothing: the native Python rules ask for one, and this tree has no C++.

So a machine without a compiler builds everything.
"""

def _impl(ctx):
    return cc_common.create_cc_toolchain_config_info(
        ctx = ctx,
        abi_libc_version = "none",
        abi_version = "none",
        compiler = "none",
        host_system_name = "local",
        target_cpu = "none",
        target_libc = "none",
        target_system_name = "local",
        tool_paths = [],
        toolchain_identifier = "no_cc",
    )

no_cc_toolchain_config = rule(
    implementation = _impl,
    provides = [CcToolchainConfigInfo],
)
