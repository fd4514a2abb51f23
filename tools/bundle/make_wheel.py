"""Builds a wheel of a py_library of this repository, by setuptools, the same byte for byte every time.

The library is what it needs of this repository, as it is imported, contracts included; packages of others are its
project file's to name. Times are the commit's.
"""

import argparse
import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from setuptools import build_meta

from tools.bundle.make_bundle import read_status

UNSTAMPED: Final = "0.0.0+unstamped"
_EARLIEST: Final = 315_532_800
"""A zip file's first moment: 1980."""
_DESCRIBED: Final = re.compile(r"v?(?P<release>\d+(\.\d+)*)(-(?P<commits>\d+)-(?P<commit>g[0-9a-f]+))?")


class WheelError(Exception):
    """What cannot go into a wheel, and why."""


def version(described: str) -> str:
    """What `git describe` says, as PEP 440 has it: v1.2.3 is 1.2.3, and four commits later 1.2.3.post4+g0a1b2c3.

    Where no release was tagged yet, only the commit is known: 0.0.0+g0a1b2c3.
    """
    found = _DESCRIBED.fullmatch(described)
    if found is None:
        return f"0.0.0+g{described}" if re.fullmatch("[0-9a-f]{7,40}", described) else UNSTAMPED
    if found["commits"] is None:
        return found["release"]
    return f"{found['release']}.post{found['commits']}+{found['commit']}"


def staged_place(short_path: str, roots: Sequence[str]) -> str | None:
    """Where a file of the library goes, below the import root that it lies in; None: it is another package's.

    Raises WheelError for one of this repository that lies below no import root.
    """
    if short_path.startswith("../"):
        return None
    for root in sorted(roots, key=len, reverse=True):
        if short_path.startswith(root + "/"):
            return short_path.removeprefix(root + "/")
    raise WheelError(f"{short_path} is needed, and lies below none of the import roots ({', '.join(roots)})")


def stage(folder: Path, files: Iterable[tuple[str, str]], roots: Sequence[str]) -> None:
    """The library's files below `folder`, as they are imported. WheelError where two of them want one place."""
    for short_path, path in files:
        place = staged_place(short_path, roots)
        if place is None:
            continue
        to = folder / place
        if to.exists():
            raise WheelError(f"{place} lies below two import roots")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)


def build(folder: Path, out: Path, status: Mapping[str, str]) -> str:
    """Builds what is staged in `folder`; the wheel's name in `out`. WheelError with what setuptools says of it."""
    described = status.get("STABLE_VERSION")
    (folder / "VERSION").write_text(version(described) if described else UNSTAMPED)
    os.environ["SOURCE_DATE_EPOCH"] = str(max(_EARLIEST, int(status.get("STABLE_COMMIT_EPOCH", "0"))))
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            return str(build_meta.build_wheel(str(out)))
        except (Exception, SystemExit) as error:
            raise WheelError(f"{said.getvalue()}{error}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--out", "--files", "--project", "--readme", "--licence"):
        parser.add_argument(option, required=True, type=Path)
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--status", type=Path)
    parser.add_argument("--import", action="append", default=[], dest="imports")
    args = parser.parse_args()
    files = [(line.split("\t")[0], line.split("\t")[1]) for line in args.files.read_text().splitlines()]
    status = read_status(args.status.read_text()) if args.status else {}
    own = args.workspace + "/"
    roots = [i.removeprefix(own) for i in args.imports if i.startswith(own)]
    out = args.out.resolve()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        stage(folder, files, roots)
        for file, name in ((args.project, "pyproject.toml"), (args.readme, "README.md"), (args.licence, "LICENSE")):
            shutil.copyfile(file, folder / name)
        build(folder, out, status)


if __name__ == "__main__":
    main()
