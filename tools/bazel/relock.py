"""Rewrites debian.lock from the suite's signed index: `PYTHONPATH=. python3 -m tools.bazel.relock`.

BAZELW_DEBIAN_MIRROR names another mirror, BAZELW_STALE_INDEX=1 accepts the expired index of a frozen one.
"""

import os
import sys

from tools.bazel import apt
from tools.bazel.debian_bazel import HERE, package_names, successors


def main() -> int:
    want = (HERE.parents[1] / ".bazelversion").read_text().strip()
    names = package_names((HERE / "packages.txt").read_text())
    try:
        pins = successors(names, want, apt.mirrors(), apt.KEYRING, bool(os.environ.get("BAZELW_STALE_INDEX")))
    except apt.AptError as e:
        print(f"relock: {e}", file=sys.stderr)
        return 1
    (HERE / "debian.lock").write_text(apt.write_lock(pins))
    print(f"relock: {len(pins)} packages in {HERE / 'debian.lock'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
