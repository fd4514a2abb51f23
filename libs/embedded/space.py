"""The reserve: puts are refused while the disk still has room, so that the database never meets a full one.

A full disk stops RocksDB in the middle of its own work, and a store in that state cannot even delete. With a reserve
left, deletes and compaction still work, and puts are accepted again by themselves once there is space.
"""

import os
from collections.abc import Callable
from pathlib import Path

from libs.embedded.failures import DiskFull

_MIB = 1 << 20


def free_bytes(path: Path) -> int:
    """Free space for this user on the disk of ``path``, in bytes. Raises OSError."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


class Reserve:
    """Asks for the free space again after every ``reserve / 8`` bytes written (1 to 16 MiB), and at each put while
    there is too little.
    """

    def __init__(self, path: Path, reserve_bytes: int, free: Callable[[Path], int] = free_bytes) -> None:
        self._path = path
        self._reserve = reserve_bytes
        self._free = free
        self._interval = max(_MIB, min(16 * _MIB, reserve_bytes // 8))
        self._unchecked = self._interval
        self.low = False

    def check(self, size_bytes: int, *, frees: bool = False) -> None:
        """Account for a write of ``size_bytes``. Raises DiskFull when it would cut into the reserve, or into its second
        half if the write ``frees`` room; OSError when it cannot tell.
        """
        self._unchecked += size_bytes
        if self._unchecked < self._interval and not self.low:
            return
        free = self._free(self._path)
        self._unchecked = 0
        self.low = self._reserve > 0 and free - size_bytes < self._reserve
        if self.low and not (frees and free - size_bytes >= self._reserve // 2):
            raise DiskFull(
                f"the disk of {self._path} has {free // _MIB} MiB free and {self._reserve // _MIB} MiB are kept"
                " in reserve: writes are refused until space is freed; deletes are accepted",
                retry_after_s=5.0,
                metadata={"free_bytes": str(free), "reserve_bytes": str(self._reserve)},
            )
