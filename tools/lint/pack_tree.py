"""Packs a checkout into one tar that depends only on names, contents and executable bits of its files."""

import argparse
import io
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "node_modules", ".venv"}


def files(root: Path, names: Sequence[str]) -> Iterator[str]:
    """Paths, relative to `root`, of all regular files at or below `names`, in order."""
    found = []
    for name in names:
        if not (root / name).is_dir():
            found.append(name)
        for folder, folders, members in os.walk(root / name):
            folders[:] = [f for f in folders if f not in IGNORED]
            found += [os.path.relpath(os.path.join(folder, member), root) for member in members]
    yield from (f for f in sorted(found) if (root / f).is_file() and not f.endswith(".pyc"))


def pack(root: Path, names: Sequence[str], out: Path) -> None:
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in files(root, names):
            data = (root / name).read_bytes()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755 if os.access(root / name, os.X_OK) else 0o644
            tar.addfile(info, io.BytesIO(data))


def proto_libraries(root: Path) -> list[str]:
    """Labels of the py_grpc_library targets below protos/."""
    labels = []
    for build in sorted((root / "protos").rglob("BUILD")):
        for name in re.findall(r'py_grpc_library\(\s*name = "([^"]+)"', build.read_text(encoding="utf-8")):
            labels.append(f"//{build.parent.relative_to(root).as_posix()}:{name}")
    return labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--packages", required=True, type=Path)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    pack(args.root, args.names, args.out)
    labels = "".join(f'    "@//{label.removeprefix("//")}",\n' for label in proto_libraries(args.root))
    args.packages.write_text(f'"""Found in the checkout."""\n\nPROTO_LIBRARIES = [\n{labels}]\n', encoding="utf-8")


if __name__ == "__main__":
    main()
