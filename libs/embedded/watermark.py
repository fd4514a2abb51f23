"""The durable watermark: proof, after a crash, that recovery brought back everything that had been acknowledged.

RocksDB recovers its write-ahead log up to the first record that does not match its checksum. That is right for the tail
that a power cut tore, which nobody was told is durable, and wrong for a damaged record before it: everything after
would vanish without a word. The two look the same in the log. So after each sync the sequence number that it made
durable is written to a small file. The file itself is not synced: it may be older than the log, never newer. Recovery
that ends below it has lost acknowledged data.

Until that is checked, the logs are kept under a second name (hard links), for recovery deletes them.
"""

import os
import struct
import zlib
from pathlib import Path

from libs.embedded.failures import StoreDamaged

_RECORD = struct.Struct("<QI")  # sequence number, CRC-32 of its eight bytes


class Watermark:
    """The file that holds the highest sequence number known to be durable."""

    def __init__(self, path: Path) -> None:
        """Open or create the file at ``path``. Raises OSError."""
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> int:
        """The sequence number, 0 when none was written. Raises StoreDamaged when the file is not what was written."""
        record = os.pread(self._fd, _RECORD.size, 0)
        if not record:
            return 0
        if len(record) == _RECORD.size:
            sequence, crc = _RECORD.unpack(record)
            if crc == zlib.crc32(record[:8]):
                return int(sequence)
        raise StoreDamaged(
            f"{self._path} is damaged: the disk changed it; check the disk,"
            " then remove the file to open without its check"
        )

    def write(self, sequence: int) -> None:
        """Note that everything up to ``sequence`` is durable. Raises OSError."""
        number = sequence.to_bytes(8, "little")
        os.pwrite(self._fd, number + zlib.crc32(number).to_bytes(4, "little"), 0)

    def close(self) -> None:
        """Close the file. Harmless when called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def keep_logs(database: Path, unverified: Path) -> None:
    """Give every non-empty write-ahead log in ``database`` a second name in ``unverified``. Raises OSError."""
    if not database.is_dir():
        return
    logs = [log for log in database.glob("*.log") if log.stat().st_size]
    if logs:
        unverified.mkdir(exist_ok=True)
    for log in logs:
        kept = unverified / log.name
        if not kept.exists():  # one that is there is what an earlier start found, before it cut the log
            os.link(log, kept)


def drop_logs(unverified: Path) -> None:
    """Remove the second names. Raises OSError."""
    if unverified.is_dir():
        for log in unverified.glob("*.log"):
            log.unlink()
        unverified.rmdir()


def check(recovered: int, durable: int, path: Path, unverified: Path) -> None:
    """Compare the recovered sequence number with the durable one. Raises StoreDamaged when acknowledged data is
    missing.
    """
    if recovered < durable:
        raise StoreDamaged(
            f"the write-ahead log in {path.parent} is damaged: recovery ended at write {recovered}, but writes up to"
            f" {durable} were acknowledged. Restore a backup. The damaged logs are kept in {unverified};"
            f" to open with what is left, accepting the loss, remove {path}",
            metadata={"recovered": str(recovered), "acknowledged": str(durable)},
        )
