"""The lock of one set of Debian packages: which roots were asked for, and the exact files that answered.

A lock is a text file, one fact a line, `#` begins a comment:

    suite bookworm                      the suite whose signed index names the files
    architecture amd64
    root redis-server                   asked for; everything else is a dependency
    without adduser                     a dependency left out on purpose (and all that only it needs)
    package NAME VERSION SHA256 PATH    PATH is relative to the archive's address

`suite`, `architecture`, `root` and `without` are written by people, `package` lines by `tools/debian/relock.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")


class LockError(Exception):
    """A lock file that cannot be understood; the text names file, line and what is allowed."""


@dataclass(frozen=True)
class Package:
    """One file of the archive: package name, Debian version, SHA-256 in hex, and path below the archive's address."""

    name: str
    version: str
    sha256: str
    path: str


@dataclass
class Lock:
    """What a lock file holds; `packages` keeps the order of the file."""

    suite: str = ""
    architecture: str = ""
    roots: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    packages: list[Package] = field(default_factory=list)


def parse(text: str, origin: str = "lock") -> Lock:
    """The lock written in `text`; `origin` is the name used in errors. Raises LockError."""
    lock = Lock()
    for number, raw in enumerate(text.splitlines(), 1):
        words = raw.split("#", 1)[0].split()
        if not words:
            continue
        kind, rest = words[0], words[1:]
        where = f"{origin}:{number}"
        if kind == "package":
            lock.packages.append(_package(rest, where))
        elif kind in ("suite", "architecture", "root", "without"):
            if len(rest) != 1:
                raise LockError(f"{where}: '{kind}' takes one word, found {len(rest)}")
            _set(lock, kind, rest[0])
        else:
            raise LockError(f"{where}: unknown '{kind}'; allowed: suite, architecture, root, without, package")
    for kind, value in (("suite", lock.suite), ("architecture", lock.architecture), ("root", lock.roots)):
        if not value:
            raise LockError(f"{origin}: no '{kind}' line")
    return lock


def _set(lock: Lock, kind: str, word: str) -> None:
    if kind == "suite":
        lock.suite = word
    elif kind == "architecture":
        lock.architecture = word
    elif kind == "root":
        lock.roots.append(word)
    else:
        lock.without.append(word)


def _package(words: list[str], where: str) -> Package:
    if len(words) != 4:
        raise LockError(
            f"{where}: a package line is 'package NAME VERSION SHA256 PATH', found {len(words)} words after it"
        )
    package = Package(*words)
    if not _SHA256.fullmatch(package.sha256):
        raise LockError(f"{where}: {package.sha256!r} is not a SHA-256 in lower-case hex")
    if package.path.startswith("/") or ".." in package.path.split("/"):
        raise LockError(f"{where}: path {package.path!r} leaves the archive")
    return package


def read(path: Path) -> Lock:
    """The lock in the file `path`."""
    return parse(path.read_text(encoding="utf-8"), str(path))


def replace_packages(text: str, packages: list[Package]) -> str:
    """`text` with its package lines replaced; every other line, comments included, stays."""
    kept = [line for line in text.splitlines() if line.split(" ", 1)[0] != "package"]
    lines = [f"package {p.name} {p.version} {p.sha256} {p.path}" for p in packages]
    return "\n".join(kept + lines) + "\n"
