"""py_grpc_library: messages, stubs and the type stubs of both, out of a proto_library."""

def _import_name(src, info, roots):
    """The path by which other protos import `src`."""
    for root in [info.proto_source_root] + roots:
        if root != "." and src.path.startswith(root + "/"):
            return src.path[len(root) + 1:]
    return src.path

def _py_proto_gen_impl(ctx):
    info = ctx.attr.proto[ProtoInfo]
    suffixes = ["_pb2"] + (["_pb2_grpc"] if ctx.attr.grpc else [])
    py, pyi, names, out_root = [], [], [], None
    for src in info.direct_sources:
        name = _import_name(src, info, [ctx.bin_dir.path])
        names.append(name)
        base = src.basename.removesuffix(".proto")
        for suffix in suffixes:
            py.append(ctx.actions.declare_file(base + suffix + ".py"))
            pyi.append(ctx.actions.declare_file(base + suffix + ".pyi"))
        wanted = "/" + name.removesuffix(".proto") + "_pb2.py"
        made = py[-len(suffixes)].path
        if not made.endswith(wanted):
            fail("%s: %s is imported as %s, which is not where it lies" % (ctx.label, src.path, name))
        out_root = made.removesuffix(wanted)
    args = ctx.actions.args()
    args.add_all(info.transitive_proto_path, format_each = "-I%s")
    args.add(ctx.executable._mypy, format = "--plugin=protoc-gen-mypy=%s")
    args.add(ctx.executable._mypy_grpc, format = "--plugin=protoc-gen-mypy_grpc=%s")
    args.add("--python_out=" + out_root)
    args.add("--mypy_out=" + out_root)
    if ctx.attr.grpc:
        args.add("--grpc_python_out=" + out_root)
        args.add("--mypy_grpc_out=" + out_root)
    args.add_all(names)
    ctx.actions.run(
        executable = ctx.executable._protoc,
        arguments = [args],
        inputs = info.transitive_sources,
        tools = [ctx.attr._mypy[DefaultInfo].files_to_run, ctx.attr._mypy_grpc[DefaultInfo].files_to_run],
        outputs = py + pyi,
        mnemonic = "PyProtoc",
        progress_message = "Generating Python from %{label}",
    )
    return [
        DefaultInfo(files = depset(py)),
        OutputGroupInfo(pyi = depset(pyi)),
    ]

_py_proto_gen = rule(
    implementation = _py_proto_gen_impl,
    attrs = {
        "grpc": attr.bool(default = True),
        "proto": attr.label(
            mandatory = True,
            providers = [ProtoInfo],
        ),
        "_mypy": attr.label(
            cfg = "exec",
            default = "//tools/proto:protoc_gen_mypy",
            executable = True,
        ),
        "_mypy_grpc": attr.label(
            cfg = "exec",
            default = "//tools/proto:protoc_gen_mypy_grpc",
            executable = True,
        ),
        "_protoc": attr.label(
            cfg = "exec",
            default = "//tools/proto:protoc",
            executable = True,
        ),
    },
)

def py_grpc_library(name, proto, deps = [], grpc = True, **kwargs):
    """A py_library of what protoc makes of `proto`, a proto_library of the same package.

    The import root is the folder of the package's path that is called "protos":
    //protos/wellspring/storage/v1 gives `from wellspring.storage.v1 import storage_pb2`.

    Args:
      name: the target's name.
      proto: the proto_library.
      deps: py_grpc_library targets of the protos that it imports; protobuf, grpcio and google/rpc are added.
      grpc: whether there are services in it.
      **kwargs: as for py_library.
    """
    kwargs = dict({"visibility": ["//visibility:public"]}, **kwargs)
    folders = native.package_name().split("/")
    if "protos" not in folders:
        fail("py_grpc_library %s: its package is not below a folder called protos" % name)
    up = len(folders) - folders.index("protos") - 1
    _py_proto_gen(
        name = name + "_gen",
        grpc = grpc,
        proto = proto,
        visibility = ["//visibility:private"],
    )
    native.filegroup(
        name = name + "_pyi",
        srcs = [name + "_gen"],
        output_group = "pyi",
        visibility = kwargs["visibility"],
    )
    native.py_library(
        name = name,
        srcs = [name + "_gen"],
        data = [name + "_pyi"],
        imports = ["/".join([".."] * up) or "."],
        srcs_version = "PY3",
        deps = deps + [
            "@pypi//googleapis_common_protos",
            "@pypi//protobuf",
        ] + (["@pypi//grpcio"] if grpc else []),
        **kwargs
    )
