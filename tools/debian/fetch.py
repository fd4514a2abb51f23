"""Fetches the packages of a lock and unpacks them: `python3 -m tools.debian.fetch --lock FILE --out FOLDER`.

FOLDER/root gets the files, FOLDER/versions.txt one line per package: name, version, SHA-256, `pinned` or `successor`.
A pinned file that has left the archive is replaced, with all it needs, by its successor from the suite's signed index,
and that is said on stderr. A file with other bytes than the lock says is refused. Exit code 1 and a reason on stderr
when the packages cannot be had.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.debian import archive, lock, unpack
from tools.debian.lock import Lock, LockError, Package

# Never unpacked: what any Debian machine has (the C and C++ run time, from which a program must not be cut off), and
# helpers that only installation scripts call.
BASE = frozenset(
    {
        "adduser",
        "debconf",
        "gcc-12-base",
        "init-system-helpers",
        "libc6",
        "libcrypt1",
        "libgcc-s1",
        "libstdc++6",
        "lsb-base",
        "passwd",
        "sysvinit-utils",
    }
)


def resolve(wanted: Lock, bases: list[str], folder: Path) -> list[Package]:
    """The closure of the lock's roots as the suite's signed index has it today."""
    found = archive.index(bases, wanted.suite, wanted.architecture, folder)
    return archive.closure(found, wanted.roots, BASE | set(wanted.without))


def fetch(wanted: Lock, bases: list[str], folder: Path) -> tuple[list[Path], list[tuple[Package, str]]]:
    """Downloads into `folder`; returns the files and, per package, whether it is 'pinned' or a 'successor'."""
    pinned = set(wanted.packages)
    try:
        return _download(bases, wanted.packages, folder), [(p, "pinned") for p in wanted.packages]
    except archive.Gone as gone:
        vanished = gone
    try:
        packages = resolve(wanted, bases, folder / "apt")
    except archive.ArchiveError as error:
        raise archive.ArchiveError(
            f"{vanished}, and no signed index of {wanted.suite} names another: {error}"
        ) from error
    say(f"{vanished}; taking today's versions from the signed index of {wanted.suite}")
    kinds = [(p, "pinned" if p in pinned else "successor") for p in packages]
    for package, kind in kinds:
        if kind == "successor":
            say(f"{package.name} {package.version} in place of the locked version")
    return _download(bases, packages, folder), kinds


def _download(bases: list[str], packages: list[Package], folder: Path) -> list[Path]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda p: archive.download(bases, p, folder), packages))


def say(text: str) -> None:
    """One line to the person who runs this."""
    print("debian:", text, file=sys.stderr, flush=True)


def check_architecture(wanted: Lock) -> None:
    """Raises ArchiveError when this machine is of another architecture than the lock."""
    done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=False)
    if done.stdout.strip() != wanted.architecture:
        raise archive.ArchiveError(
            f"locked for {wanted.architecture}, this machine is {done.stdout.strip() or 'unknown'}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        wanted = lock.read(options.lock)
        check_architecture(wanted)
        with tempfile.TemporaryDirectory(prefix="debian-") as scratch:
            files, kinds = fetch(wanted, archive.mirrors(), Path(scratch))
            unpack.unpack(files, options.out / "root")
    except FileNotFoundError as error:
        say(f"{error.filename} is not on this machine (Debian's apt and dpkg are needed)")
        return 1
    except (archive.ArchiveError, LockError, OSError) as error:
        say(str(error))
        return 1
    lines = [f"{p.name} {p.version} {p.sha256} {kind}\n" for p, kind in kinds]
    (options.out / "versions.txt").write_text("".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
