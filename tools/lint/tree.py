"""Unpacks the packed checkout, for tests about the whole tree."""

import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

MAIN_REPOSITORY = "wellspring_monorepo"


def runfile(path: str) -> Path:
    """The file or folder `<repository>/<path>` among the running test's runfiles."""
    return Path(os.environ["TEST_SRCDIR"]) / path


def unpack(to: Path) -> Path:
    """Writes the checkout's files below `to` and returns it."""
    with tarfile.open(runfile("checkout/tree.tar")) as tar:
        tar.extractall(to)  # our own archive, packed by pack_tree
    return to


def source_files(root: Path, *suffixes: str) -> list[str]:
    """Paths below `root`, relative and sorted, of the files whose names end in one of `suffixes`."""
    found = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and p.name.endswith(suffixes)]
    return sorted(found)


def complaints(command: Sequence[object], cwd: Path) -> str:
    """Runs a linter in `cwd`; what it printed when it did not end well, else nothing."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return (
        "" if done.returncode == 0 else done.stdout + f"\n({words[0].rsplit('/', 1)[-1]}: exit code {done.returncode})"
    )
