"""The lock of one class path: the Maven artifacts asked for, and every jar that answers, by SHA-256.

A lock is a text file, one fact a line, `#` begins a comment:

    artifact GROUP:ARTIFACT:VERSION     asked for, written by people
    jar SHA256 FILE                     what Maven resolves, written by tools/maven/relock.py
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_COORDINATES = re.compile(r"[A-Za-z0-9._\-]+:[A-Za-z0-9._\-]+:[A-Za-z0-9._\-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class LockError(Exception):
    """A lock file that cannot be understood; the text names file, line and what is allowed."""


@dataclass
class Lock:
    """`artifacts` are GROUP:ARTIFACT:VERSION; `jars` maps file names to SHA-256 in hex."""

    artifacts: list[str] = field(default_factory=list)
    jars: dict[str, str] = field(default_factory=dict)


def parse(text: str, origin: str = "lock") -> Lock:
    """The lock written in `text`; `origin` is the name used in errors. Raises LockError."""
    lock = Lock()
    for number, raw in enumerate(text.splitlines(), 1):
        match raw.split("#", 1)[0].split():
            case []:
                continue
            case ["artifact", coordinates] if _COORDINATES.fullmatch(coordinates):
                lock.artifacts.append(coordinates)
            case ["jar", digest, name] if _SHA256.fullmatch(digest) and "/" not in name:
                lock.jars[name] = digest
            case _:
                raise LockError(
                    f"{origin}:{number}: {raw!r} is neither 'artifact GROUP:ARTIFACT:VERSION' nor 'jar SHA256 FILE'"
                )
    if not lock.artifacts:
        raise LockError(f"{origin}: no 'artifact' line")
    return lock


def read(path: Path) -> Lock:
    """The lock in the file `path`."""
    return parse(path.read_text(encoding="utf-8"), str(path))


def replace_jars(text: str, jars: dict[str, str]) -> str:
    """`text` with its jar lines replaced; every other line, comments included, stays."""
    kept = [line for line in text.splitlines() if line.split(" ", 1)[0] != "jar"]
    return "\n".join(kept + [f"jar {jars[name]} {name}" for name in sorted(jars)]) + "\n"


def differences(locked: dict[str, str], found: dict[str, str]) -> list[str]:
    """What sets `found` apart from `locked`, one sentence for each jar; empty when they are the same."""
    out = []
    for name in sorted(locked.keys() | found.keys()):
        if name not in found:
            out.append(f"{name}: locked, but Maven did not bring it")
        elif name not in locked:
            out.append(f"{name}: brought by Maven, but not locked")
        elif locked[name] != found[name]:
            out.append(f"{name}: SHA-256 is {found[name]}, the lock says {locked[name]}")
    return out
