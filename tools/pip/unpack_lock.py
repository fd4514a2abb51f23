"""Downloads the wheels of a hash-locked requirements file, unpacks each and writes its BUILD file.

OUT/<dist>/site holds what the wheel installs, OUT/<dist>/bin its ready programs. The target
//<dist> carries `site` as one directory, so that a test's runfiles hold one link for each
distribution instead of thousands, and depends on what the wheel's Requires-Dist names.
"""

import argparse
import compileall
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

# pip brings its own copy of `packaging`: a repository rule has nothing else to import.
from pip._vendor.packaging.markers import default_environment
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import parse_wheel_filename

BUILD = """package(default_visibility = ["//visibility:public"])

exports_files(["site"])

py_library(
    name = "{name}",
    data = ["site"],
    imports = ["site"],
    srcs_version = "PY3",
    deps = {deps},
)

# Programs that the wheel ships ready to run (console scripts are not among them).
filegroup(
    name = "bin",
    srcs = glob(["bin/*"], allow_empty = True),
)
"""

PROTOS = """
proto_library(
    name = "protos",
    srcs = glob(["{root}/google/**/*.proto"]),
    strip_import_prefix = "{root}",
    deps = {deps},
)
"""

# Wheels that carry .proto files, and where: the well-known types, and google/rpc with its neighbours.
PROTO_WHEELS: Mapping[str, tuple[str, list[str]]] = {
    "grpcio_tools": ("site/grpc_tools/_proto", []),
    "googleapis_common_protos": ("site", ["//grpcio_tools:protos"]),
}

KEPT_FIELDS = ("Name", "Version", "Summary", "License-Expression", "License", "Classifier", "Requires-Dist")

ROOT = """package(default_visibility = ["//visibility:public"])

# Every distribution of the lock.
py_library(
    name = "all",
    srcs_version = "PY3",
    deps = {all},
)

# What each wheel says of itself: a JSON object of name -> fields of its METADATA.
exports_files(["metadata.json"])
"""


def normalise(name: str) -> str:
    """`Foo.Bar-baz` as a target is called: `foo_bar_baz`."""
    return re.sub(r"[-_.]+", "_", name).lower()


def target_path(name: str) -> str | None:
    """Where a member of a wheel goes, below OUT/<dist>; None for what is not kept (headers, data, test suites)."""
    if m := re.fullmatch(r"[^/]+\.data/(purelib|platlib|scripts)/(.*)", name):
        return ("bin/" if m[1] == "scripts" else "site/") + m[2]
    if re.match(r"[^/]+\.data/", name) or "/tests/" in name:
        return None
    return "site/" + name


def unpack(wheel: Path, folder: Path) -> None:
    """Unpacks `wheel` into `folder`; a member that would land outside of it is an error."""
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            relative = target_path(info.filename)
            if info.is_dir() or relative is None:
                continue
            to = Path(os.path.normpath(folder / relative))
            if not to.is_relative_to(folder / relative.split("/", 1)[0]):
                raise SystemExit(f"{wheel.name}: the member {info.filename} would leave its folder")
            to.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, to.open("wb") as out:
                shutil.copyfileobj(source, out)
            if (info.external_attr >> 16) & 0o111 or relative.startswith("bin/"):
                to.chmod(0o755)


def metadata(site: Path) -> Message:
    for path in site.glob("*.dist-info/METADATA"):
        with path.open("rb") as f:
            return BytesParser().parse(f, headersonly=True)
    raise SystemExit(f"{site}: the wheel has no METADATA")


def dependencies(requires: Mapping[str, list[Requirement]]) -> dict[str, list[str]]:
    """For each distribution those that it needs here, without the edges that would close a circle."""
    env = {**default_environment(), "extra": ""}
    deps: dict[str, list[str]] = {}
    for name, wanted in requires.items():
        found = set()
        for r in wanted:
            if r.marker and not r.marker.evaluate(env):
                continue
            other = normalise(r.name)
            if other not in requires:
                raise SystemExit(f"{name} needs {r}, which the lock lacks: run ./bazelw run //third_party/python:lock")
            if other != name:
                found.add(other)
        deps[name] = sorted(found)
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        deps[name] = [d for d in deps[name] if d not in above]
        for d in deps[name]:
            if d not in done:
                visit(d, (*above, d))
        done.add(name)

    for name in sorted(deps):
        if name not in done:
            visit(name, (name,))
    return deps


def download(lock: Path, wheels: Path) -> None:
    command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--require-hashes", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]
    subprocess.run([*command, "--dest", str(wheels), "--requirement", str(lock)], check=True)


def write_build_files(out: Path, deps: Mapping[str, list[str]]) -> None:
    names = sorted(deps)
    for name in names:
        text = BUILD.format(name=name, deps=["//" + d for d in deps[name]])
        if name in PROTO_WHEELS:
            root, needs = PROTO_WHEELS[name]
            text += PROTOS.format(root=root, deps=needs)
        (out / name / "BUILD").write_text(text)
    (out / "BUILD").write_text(ROOT.format(all=["//" + n for n in names]))
    (out / "WORKSPACE").write_text("")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    out: Path = args.out.resolve()
    wheels = out / ".wheels"
    download(args.lock, wheels)
    requires, said = {}, {}
    for wheel in sorted(wheels.iterdir()):
        name = normalise(parse_wheel_filename(wheel.name)[0])
        unpack(wheel, out / name)
        fields = metadata(out / name / "site")
        requires[name] = [Requirement(r) for r in fields.get_all("Requires-Dist") or []]
        said[name] = {key: [str(v) for v in fields.get_all(key) or []] for key in KEPT_FIELDS}
    shutil.rmtree(wheels)
    (out / "metadata.json").write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")
    write_build_files(out, dependencies(requires))
    # Compiled once here, not in every test; "unchecked": the sources never change under a locked hash.
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for name in requires:
        compileall.compile_dir(out / name / "site", quiet=2, workers=os.cpu_count() or 1, invalidation_mode=mode)


if __name__ == "__main__":
    main()
