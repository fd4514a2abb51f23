"""What Debian's packages say of each other: `python3 -m tools.debian.dependencies --suite NAME --out FILE`.

FILE gets a control file with a paragraph for each package, of the fields Package, Pre-Depends and Depends, sorted by
name. The index is the one that this machine's apt has; where it has none, the suite's signed index is fetched. Exit
code 1 and a reason on stderr when there is none to be had.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tools.debian import archive

FIELDS = ("Package", "Pre-Depends", "Depends")
_LEAST = 10_000
"""Packages of a whole index; a machine without lists still tells of those that are installed."""


def of_this_machine() -> dict[str, dict[str, str]]:
    """Package name -> control fields, of the lists that apt has here; few or none where it has no lists."""
    done = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=False)
    found: dict[str, dict[str, str]] = {}
    for fields in archive.stanzas(done.stdout):
        found.setdefault(fields["Package"], fields)
    return found


def text_of(packages: Iterable[dict[str, str]]) -> str:
    """The control file of these packages."""
    ordered = sorted(packages, key=lambda fields: fields["Package"])
    paragraphs = ("".join(f"{name}: {given[name]}\n" for name in FIELDS if name in given) for given in ordered)
    return "\n".join(paragraphs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", required=True)
    parser.add_argument("--architecture", default="amd64")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        found = of_this_machine()
        if len(found) < _LEAST:
            with tempfile.TemporaryDirectory(prefix="debian-") as scratch:
                found = archive.index(archive.mirrors(), options.suite, options.architecture, Path(scratch))
    except FileNotFoundError as error:
        print(f"debian: {error.filename} is not on this machine (Debian's apt is needed)", file=sys.stderr)
        return 1
    except (archive.ArchiveError, OSError) as error:
        print(f"debian: {error}", file=sys.stderr)
        return 1
    options.out.write_text(text_of(found.values()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
