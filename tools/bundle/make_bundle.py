"""Writes PROGRAM-VERSION/{bin,app,site,VERSION,bundle.json} as a tar.gz that is the same byte for byte every time.

`app` holds the sources of this repository and generated code, `site` the third-party packages, merged as an
installation would have them. Times are the commit's, owners are root, members are sorted, and files that
Python compiles itself are left out.
"""

import argparse
import gzip
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

LAUNCHER = """#!/bin/sh
# Runs {name} {version} with this machine's Python {python}: WELLSPRING_PYTHON, python{python} or python3.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd)
for python in ${{WELLSPRING_PYTHON:-}} python{python} python3; do
  if "$python" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "{python}")' 2>/dev/null; then
    PYTHONPATH={path} exec "$python" -S -P "$here/{main}" "$@"
  fi
done
echo "{name}: needs Python {python}, and none is on PATH; install it, or name it in WELLSPRING_PYTHON" >&2
exit 1
"""
UNSTAMPED = "0.0.0-unstamped"


class BundleError(Exception):
    """What cannot go into one bundle, and why."""


def read_status(text: str) -> dict[str, str]:
    """Bazel's stable status file: `KEY value` lines."""
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line)


def place(short_path: str) -> str:
    """Where a runfile goes: `../pypi/<dist>/site/x` to `site/x`, what is ours to `app/`."""
    if not short_path.startswith("../"):
        return "app/" + short_path
    parts = short_path.split("/")[1:]
    if parts[0] == "pypi" and len(parts) > 2 and parts[2] == "site":
        return "/".join(parts[2:])
    return "external/" + "/".join(parts)


def walk(path: Path, to: str) -> Iterator[tuple[str, Path]]:
    """The files at or below `path` with their places, without what Python compiles."""
    if not path.is_dir():
        yield to, path
        return
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = [f for f in folders if f != "__pycache__"]
        for name in names:
            file = Path(folder, name)
            yield f"{to}/{file.relative_to(path).as_posix()}", file


def collect(files: Iterable[tuple[str, str]]) -> dict[str, Path]:
    """Place -> file; BundleError when two different files want one place."""
    found: dict[str, Path] = {}
    for short_path, path in files:
        for to, file in walk(Path(path), place(short_path)):
            if to in found and found[to].read_bytes() != file.read_bytes():
                raise BundleError(f"{to} would come from {found[to]} and from {file}, which differ")
            found[to] = file
    return found


def import_roots(imports: Sequence[str], workspace: str) -> list[str]:
    """The folders of the bundle that Python looks into, in order."""
    roots = ["app"]
    for i in imports:
        root = place(i.removeprefix(workspace + "/") if i.startswith(workspace + "/") else f"../{i}")
        if root not in roots:
            roots.append(root)
    return roots


def write(out: Path, top: str, entries: Mapping[str, Path | bytes], mtime: int) -> None:
    with (
        open(out, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(entries):
            entry = entries[name]
            data = entry if isinstance(entry, bytes) else entry.read_bytes()
            program = name.startswith("bin/") or (isinstance(entry, Path) and os.access(entry, os.X_OK))
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size, info.mtime, info.uname, info.gname = len(data), mtime, "root", "root"
            info.mode = 0o755 if program and not name.endswith(".py") else 0o644
            tar.addfile(info, io.BytesIO(data))


def make(
    out: Path,
    name: str,
    main: str,
    files: Iterable[tuple[str, str]],
    roots: Sequence[str],
    python: str,
    status: Mapping[str, str],
) -> None:
    """Writes the bundle to `out`; `status` is empty for one that is not stamped."""
    version = status.get("STABLE_VERSION", UNSTAMPED)
    about = {
        "name": name,
        "version": version,
        "commit": status.get("STABLE_GIT_COMMIT"),
        "tree": status.get("STABLE_GIT_TREE"),
        "python": python,
    }
    path = ":".join(f'"$here/{root}"' for root in roots)
    launcher = LAUNCHER.format(name=name, version=version, python=python, main=f"app/{main}", path=path)
    entries: dict[str, Path | bytes] = {
        **collect(files),
        f"bin/{name}": launcher.encode(),
        "VERSION": (version + "\n").encode(),
        "bundle.json": (json.dumps(about, indent=1, sort_keys=True) + "\n").encode(),
    }
    write(out, f"{name}-{version}", entries, int(status.get("STABLE_COMMIT_EPOCH", "0")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--out", "--python", "--files"):
        parser.add_argument(option, required=True, type=Path)
    for option in ("--name", "--main", "--workspace"):
        parser.add_argument(option, required=True)
    parser.add_argument("--status", type=Path)
    parser.add_argument("--import", action="append", default=[], dest="imports")
    args = parser.parse_args()
    files = [tuple(line.split("\t")) for line in args.files.read_text().splitlines()]
    python = ".".join(args.python.read_text().splitlines()[1].split(".")[:2])
    status = read_status(args.status.read_text()) if args.status else {}
    roots = import_roots(args.imports, args.workspace)
    make(args.out, args.name, args.main, [(f[0], f[1]) for f in files], roots, python, status)


if __name__ == "__main__":
    main()
