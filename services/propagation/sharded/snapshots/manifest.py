"""What a snapshot says of itself: where in the log it stands, the files of the store, the checksums of its parts.

It is written twice: before the first part, so that what a killed writer leaves is known, and when all parts are there.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from libs.errors.errors import DataLoss
from services.propagation.store.embedded_layout import VERSION
from services.propagation.store.logged.place import Anchor
from services.propagation.store.logged.records import Position

FORMAT = 1
PART_BYTES = 8 << 20
"""Of a part, so that it is small beside an engine's memory; larger in a snapshot of more than MOST_PARTS of them."""
MOST_PARTS = 4096
"""So that the manifest is a value of an ordinary put."""


class SnapshotDamaged(DataLoss):
    """A snapshot that is not what was written, or not all of it."""

    default_reason = "SNAPSHOT_DAMAGED"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A snapshot that has everything up to `anchor`, and maybe more: its store says itself how far it is.

    `topic` is the identity of the log's topic, `written_s` Unix time; `files` are (name, size) in the order in which
    their bytes lie in the parts, `parts` the SHA-256 of each, none as long as the snapshot is being written.
    """

    anchor: Anchor
    topic: str
    written_s: float
    files: tuple[tuple[str, int], ...]
    part_bytes: int
    parts: tuple[str, ...] = ()
    store_version: int = VERSION

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(size for _, size in self.files)

    @property
    def part_count(self) -> int:
        """How many parts there are, or will be."""
        return -(-self.size_bytes // self.part_bytes)

    @property
    def whole(self) -> bool:
        """Whether all parts are there."""
        return len(self.parts) == self.part_count > 0

    def packed(self) -> bytes:
        """A line with the checksum of the rest, which is JSON."""
        position = self.anchor.position
        text = json.dumps(
            {
                "format": FORMAT,
                "store_version": self.store_version,
                "topic": self.topic,
                "epoch": position.epoch,
                "number": position.number,
                "offset": self.anchor.offset,
                "written_s": self.written_s,
                "part_bytes": self.part_bytes,
                "files": self.files,
                "parts": self.parts,
            },
            indent=None,
        ).encode()
        return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def part_bytes_for(size_bytes: int) -> int:
    """The size of the parts of so large a snapshot."""
    return max(PART_BYTES, -(-size_bytes // MOST_PARTS))


def name_of(anchor: Anchor, distinct: str) -> str:
    """A snapshot's name: names sort as their positions do; `distinct` tells those of one position apart."""
    return f"{anchor.position.epoch:016x}-{anchor.position.number:016x}-{distinct}"


def parse(packed: bytes, name: str) -> Manifest:
    """Raises SnapshotDamaged, also for the format of another release."""
    checksum, _, text = packed.partition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() != checksum:
        raise SnapshotDamaged(f"the snapshot {name}: its manifest is damaged")
    try:
        said = json.loads(text)
        if said["format"] != FORMAT:
            raise SnapshotDamaged(f"the snapshot {name} is of another release: its format is {said['format']}")
        return Manifest(
            Anchor(Position(said["epoch"], said["number"]), said["offset"]),
            said["topic"],
            said["written_s"],
            _files(said["files"]),
            said["part_bytes"],
            tuple(said["parts"]),
            said["store_version"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotDamaged(f"the snapshot {name}: its manifest is none") from error


def _files(said: Sequence[Sequence[object]]) -> tuple[tuple[str, int], ...]:
    files = []
    for name, size in said:
        if not isinstance(name, str) or not isinstance(size, int) or size < 0:
            raise ValueError("a file is a name and a size")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError("a file lies inside the directory")
        files.append((name, size))
    return tuple(files)
