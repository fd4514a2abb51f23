"""Resolves requirements.in anew and writes requirements.lock with hashes: `./bazelw run //third_party/python:lock`.

Wheels only. The machine's Python decides versions and markers; for each version the hashes of the wheels for
every interpreter in TARGETS are taken, so that one lock serves them all. What needs a package only on some
interpreters is written in requirements.in with its marker, which the lock keeps.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.pip.requirements import Requirement, canonical, read_requirements

HEADER = "# Written by ./bazelw run //third_party/python:lock out of requirements.in: do not edit.\n"
TARGETS = ("3.11", "3.12", "3.13")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_24_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PLATFORMS_OLD = ("manylinux2010_x86_64", "manylinux_2_12_x86_64", "manylinux_2_5_x86_64", "manylinux1_x86_64")


@dataclass
class Locked:
    """One distribution of the lock."""

    name: str
    version: str
    hashes: set[str] = field(default_factory=set)
    marker: str = ""

    def text(self) -> str:
        head = f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")
        return " \\\n".join([head, *(f"    --hash=sha256:{h}" for h in sorted(self.hashes))]) + "\n"


def report(python: str, requirements: Iterable[str], *options: str) -> list[Mapping[str, Any]]:
    """What `pip install` would take, as its JSON report says; installs nothing. SystemExit when it cannot resolve."""
    with tempfile.TemporaryDirectory() as tmp:
        wanted, out = Path(tmp) / "in.txt", Path(tmp) / "out.json"
        wanted.write_text("".join(r + "\n" for r in requirements))
        command = [python, "-I", "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--report", str(out), "-r", str(wanted)]
        done = subprocess.run(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"pip could not resolve this:\n{done.stdout}")
        installs: list[Mapping[str, Any]] = json.loads(out.read_text())["install"]
        return installs


def sha256(install: Mapping[str, Any]) -> str:
    return str(install["download_info"]["archive_info"]["hashes"]["sha256"])


def lock(python: str, requirements: Sequence[Requirement], targets: Sequence[str]) -> list[Locked]:
    """The closure of `requirements`, with the hashes of the wheels for the running Python and for `targets`."""
    locked = {}
    # First without the markers of the requirements: what is only needed elsewhere is locked as well.
    for install in report(python, (r.without_marker for r in requirements)):
        name = canonical(install["metadata"]["name"])
        locked[name] = Locked(name, install["metadata"]["version"], {sha256(install)})
    for r in requirements:
        locked[r.name].marker = r.marker
    pins = [f"{d.name}=={d.version}" for d in locked.values()]
    platforms = [o for p in (*PLATFORMS, *PLATFORMS_OLD) for o in ("--platform", p)]
    for target in targets:
        with tempfile.TemporaryDirectory() as tmp:
            options = ["--no-deps", "--target", tmp, "--implementation", "cp", "--python-version", target, *platforms]
            for install in report(python, pins, *options):
                locked[canonical(install["metadata"]["name"])].hashes.add(sha256(install))
    return [locked[name] for name in sorted(locked)]


def changes(before: str, after: str) -> list[str]:
    """A line for each distribution whose version is not what it was."""
    pin = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)
    old, new = dict(pin.findall(before)), dict(pin.findall(after))
    names = sorted(old.keys() | new.keys())
    return [f"{n}: {old.get(n, 'absent')} -> {new.get(n, 'absent')}" for n in names if old.get(n) != new.get(n)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="keep the versions of the lock where requirements.in allows"
    )
    args = parser.parse_args()
    folder = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ".")) / "third_party/python"
    path = folder / "requirements.lock"
    before = path.read_text() if path.exists() else ""
    requirements = read_requirements((folder / "requirements.in").read_text())
    if args.keep:
        pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", before, re.MULTILINE))
        named = {r.name for r in requirements}
        requirements = [r.pinned(pins[r.name]) if r.name in pins and r.is_bare else r for r in requirements]
        requirements += [Requirement(n, f"=={v}", "") for n, v in pins.items() if n not in named]
    after = HEADER + "".join(d.text() for d in lock(sys.executable, requirements, TARGETS))
    path.write_text(after)
    print("\n".join(changes(before, after)) or "no version changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
