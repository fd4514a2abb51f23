"""One file out of a wheel, by locked hashes, as data: the wheel is neither installed nor importable."""

def _pip_data_impl(rctx):
    python = rctx.read(rctx.attr._python).split("\n")[0]
    requirement = "%s --hash=sha256:%s\n" % (rctx.attr.requirement, rctx.attr.sha256)
    rctx.file("requirement.txt", requirement, executable = False)
    rctx.report_progress("downloading " + rctx.attr.requirement)
    res = rctx.execute(
        [
            python,
            "-I",
            rctx.path(rctx.attr._tool),
            "--requirement",
            rctx.path("requirement.txt"),
            "--python-version",
            rctx.attr.python_version,
            "--platform",
            rctx.attr.platform,
            "--member",
            rctx.attr.member,
            "--member-sha256",
            rctx.attr.member_sha256,
            "--out",
            rctx.path(rctx.attr.file_name),
        ],
        timeout = 1800,
        environment = {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    if res.return_code:
        fail("%s of %s could not be fetched:\n%s\n%s" % (rctx.attr.member, rctx.attr.requirement, res.stdout[-4000:], res.stderr[-4000:]))
    rctx.file("WORKSPACE", "")
    rctx.file("BUILD", """package(default_visibility = ["//visibility:public"])

filegroup(
    name = "{target}",
    srcs = ["{file}"],
)
""".format(file = rctx.attr.file_name, target = rctx.attr.target))

pip_data = repository_rule(
    implementation = _pip_data_impl,
    attrs = {
        "file_name": attr.string(
            doc = "What the file is called here.",
            mandatory = True,
        ),
        "member": attr.string(
            doc = "The file's path in the wheel.",
            mandatory = True,
        ),
        "member_sha256": attr.string(mandatory = True),
        "platform": attr.string(
            default = "manylinux_2_28_x86_64",
            doc = "The wheel's platform; the file is the same on every machine.",
        ),
        "python_version": attr.string(default = "3.11"),
        "requirement": attr.string(
            doc = "name==version",
            mandatory = True,
        ),
        "sha256": attr.string(
            doc = "Of the wheel.",
            mandatory = True,
        ),
        "target": attr.string(mandatory = True),
        "_python": attr.label(
            allow_single_file = True,
            default = "@local_python//:python.txt",
        ),
        "_tool": attr.label(
            allow_single_file = True,
            default = "//tools/pip:extract_member.py",
        ),
    },
    environ = ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CERT", "PIP_PROXY"],
    doc = "Makes @<name>//:<target>, one file of a wheel.",
)
