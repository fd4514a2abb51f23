"""Rewrites locks from the signed index: `python3 -m tools.debian.relock tools/debian/locks/*.lock`.

Run it from the top of the repository, to take security updates or after a change of the roots.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tools.debian import archive, fetch, lock


def main(paths: list[str]) -> int:
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        for path in map(Path, paths):
            wanted = lock.read(path)
            with tempfile.TemporaryDirectory(prefix="debian-") as scratch:
                packages = fetch.resolve(wanted, archive.mirrors(), Path(scratch))
            path.write_text(lock.replace_packages(path.read_text(), packages))
            print(f"{path}: {len(packages)} packages")
    except (archive.ArchiveError, lock.LockError, OSError) as error:
        print(f"relock: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
