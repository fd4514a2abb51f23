"""Write-ahead logs are made readable before RocksDB reads them: on some damage it spins for ever.

A log is a row of blocks of 32 KiB; a block is a row of records, each with a header: checksum (4 bytes), length (2,
little-endian), type (1). Types 5 to 8 and 11 belong to recycled log files, which this store never makes; one flipped
bit makes a 5 of a 1. In RocksDB 9.8 a recovery that meets one does not come back (facebook/rocksdb issue 13333).
Whatever stands there or after it is lost to recovery in any case, so the log is cut there, in the middle of the header:
an incomplete header is damage that recovery sees, stops at and reports. Whether anything acknowledged was behind it is
then for the watermark to say.
"""

import os
from pathlib import Path

from libs.embedded.failures import StoreDamaged
from libs.files import durable

_BLOCK = 32 * 1024
_HEADER = 7
_STUMP = 3
_ENDLESS = frozenset({5, 6, 7, 8, 11})


def make_readable(database: Path) -> None:
    """Cut every log of the closed ``database`` before its first record that RocksDB would not come back from.

    The file under the old name is replaced, not changed: a second name keeps the whole. Raises StoreDamaged when the
    list of files (MANIFEST) has such a record, for it cannot be cut; OSError.
    """
    for log in database.glob("*.log"):
        place = first_endless(log)
        if place is not None:
            _cut(log, place + _STUMP)
    current = database / "CURRENT"
    if current.exists():
        manifest = database / current.read_text(encoding="ascii", errors="replace").strip()
        if manifest.is_file() and first_endless(manifest) is not None:
            raise StoreDamaged(f"{manifest} is damaged: the disk changed it; restore a backup")


def first_endless(path: Path) -> int | None:
    """Where in the log ``path`` the first record of a recycled type begins, in bytes; None when there is none.

    Checksums are not looked at: behind a record whose own is wrong this finds places that RocksDB skips, and nothing
    that it keeps. Raises OSError.
    """
    with path.open("rb") as file:
        start = 0
        while block := file.read(_BLOCK):
            place = _endless_in(block)
            if place is not None:
                return start + place
            start += len(block)
    return None


def _endless_in(block: bytes) -> int | None:
    at, last = 0, len(block) - _HEADER
    while at <= last:
        if block[at + 6] in _ENDLESS:
            return at
        at += _HEADER + block[at + 4] + (block[at + 5] << 8)
    return None


def _cut(log: Path, size_bytes: int) -> None:
    new = log.with_suffix(".cut")
    with log.open("rb") as source, new.open("wb") as target:
        while size_bytes > 0 and (piece := source.read(min(size_bytes, 1 << 20))):
            target.write(piece)
            size_bytes -= len(piece)
        target.flush()
        os.fsync(target.fileno())
    new.replace(log)
    durable.sync_directory(log.parent)
