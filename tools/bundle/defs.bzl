"""bundle: one deterministic tar.gz of a py_binary with all that it needs but Python itself; wheel: one of a py_library."""

_STAMPED = select({
    "//conditions:default": False,
    "//tools/bundle:stamped": True,
})

def _entry(file):
    return file.short_path + "\t" + file.path

def _run(ctx, out, runfiles, args, inputs, imports, mnemonic, doing):
    """Has the tool make `out` of `runfiles`; with a stamp it is told the commit's."""
    files = ctx.actions.args()
    files.set_param_file_format("multiline")
    files.use_param_file("--files=%s", use_always = True)
    files.add_all(runfiles, map_each = _entry)
    args.add("--workspace", ctx.workspace_name)
    args.add_all(imports, before_each = "--import")
    if ctx.attr.stamped:
        args.add("--status", ctx.info_file)
        inputs = inputs + [ctx.info_file]
    ctx.actions.run(
        arguments = [args, files],
        executable = ctx.executable._tool,
        inputs = depset(runfiles + inputs),
        mnemonic = mnemonic,
        outputs = [out],
        progress_message = doing + " %{label}",
    )
    return [DefaultInfo(files = depset([out]))]

def _bundle_impl(ctx):
    out = ctx.actions.declare_file(ctx.attr.name + ".tar.gz")
    binary = ctx.attr.binary
    runfiles = [
        f
        for f in binary[DefaultInfo].default_runfiles.files.to_list()
        if f.path != ctx.executable.binary.path and not f.short_path.startswith("../local_python/")
    ]
    args = ctx.actions.args()
    args.add("--out", out)
    args.add("--name", ctx.attr.program or binary.label.name)
    args.add("--main", ctx.file.main.short_path)
    args.add("--python", ctx.file._python)
    return _run(ctx, out, runfiles, args, [ctx.file._python], binary[PyInfo].imports, "Bundle", "Bundling")

_bundle = rule(
    implementation = _bundle_impl,
    attrs = {
        "binary": attr.label(
            cfg = "target",
            executable = True,
            mandatory = True,
            providers = [PyInfo],
        ),
        "main": attr.label(
            allow_single_file = [".py"],
            mandatory = True,
        ),
        "program": attr.string(),
        "stamped": attr.bool(),
        "_python": attr.label(
            allow_single_file = True,
            default = "@local_python//:python.txt",
        ),
        "_tool": attr.label(
            cfg = "exec",
            default = "//tools/bundle:make_bundle",
            executable = True,
        ),
    },
)

def bundle(name, binary, main, program = "", **kwargs):
    """<name>.tar.gz with PROGRAM-VERSION/bin/PROGRAM; with --stamp (--config=release) the version is the commit's.

    Args:
      name: the target's name.
      binary: a py_binary.
      main: its main file.
      program: what the program is called; the binary's name unless said otherwise.
      **kwargs: as for every rule.
    """
    _bundle(
        name = name,
        binary = binary,
        main = main,
        program = program,
        stamped = _STAMPED,
        **dict({"visibility": ["//visibility:public"]}, **kwargs)
    )

def _wheel_impl(ctx):
    out = ctx.actions.declare_directory(ctx.attr.name)
    library = ctx.attr.library
    runfiles = [f for f in library[DefaultInfo].default_runfiles.files.to_list() if not f.short_path.startswith("../")]
    args = ctx.actions.args()
    args.add("--out", out.path)
    args.add("--project", ctx.file.project)
    args.add("--readme", ctx.file.readme)
    args.add("--licence", ctx.file.licence)
    inputs = [ctx.file.project, ctx.file.readme, ctx.file.licence]
    return _run(ctx, out, runfiles, args, inputs, library[PyInfo].imports, "Wheel", "Building the wheel of")

_wheel = rule(
    implementation = _wheel_impl,
    attrs = {
        "library": attr.label(
            mandatory = True,
            providers = [PyInfo],
        ),
        "licence": attr.label(
            allow_single_file = True,
            default = "//:LICENSE",
        ),
        "project": attr.label(
            allow_single_file = [".toml"],
            mandatory = True,
        ),
        "readme": attr.label(
            allow_single_file = [".md"],
            mandatory = True,
        ),
        "stamped": attr.bool(),
        "_tool": attr.label(
            cfg = "exec",
            default = "//tools/bundle:make_wheel",
            executable = True,
        ),
    },
)

def wheel(name, library, project, readme, **kwargs):
    """A folder <name> with one wheel: what `library` needs of this repository; with --stamp the version is the commit's.

    Args:
      name: the target's name.
      library: a py_library.
      project: its pyproject.toml, which names the packages that it needs beside.
      readme: the page that the wheel shows.
      **kwargs: as for every rule.
    """
    _wheel(
        name = name,
        library = library,
        project = project,
        readme = readme,
        stamped = _STAMPED,
        **dict({"visibility": ["//visibility:public"]}, **kwargs)
    )
