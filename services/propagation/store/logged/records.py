"""Records of a shard's log: a commit in one piece or several, or the word of an engine that it is the owner now.

Commits are numbered without a gap. An owner has an epoch above all before it, says so before its first commit, and
every record carries it: whatever the log's order, a reader can tell a commit that is missing, one that comes again, and
one of a former owner that was still on its way.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from libs.errors.errors import DataLoss

PIECE_BYTES = 512 << 10
"""The most that a record carries of a commit: half of what brokers take in one message by default (1 MiB)."""

_MAGIC = b"WsPl"
_HEAD = Struct("<4sBQQIII")
_CHECKSUM_AT = _HEAD.size - 4
_COMMIT, _OWNER = 1, 2


class LogDamaged(DataLoss):
    """A log out of which something is missing, or that holds what no engine put there."""

    default_reason = "LOG_DAMAGED"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the log: behind commit `number`, under the owner of `epoch`. (0, 0) is the beginning."""

    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Piece `at` of the `pieces` of commit `number`."""

    position: Position
    at: int
    pieces: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Owner:
    """From here on the owner is that of `position.epoch`; `position.number` is the last commit before it."""

    position: Position


def commit_records(position: Position, packed: bytes) -> list[bytes]:
    """The records of a packed commit."""
    pieces = max(1, -(-len(packed) // PIECE_BYTES))
    cuts = range(0, pieces * PIECE_BYTES, PIECE_BYTES)
    return [_framed(_COMMIT, position, at, pieces, packed[cut : cut + PIECE_BYTES]) for at, cut in enumerate(cuts)]


def owner_record(position: Position) -> bytes:
    """The record of an owner that begins behind the commit `position.number`."""
    return _framed(_OWNER, position, 0, 1, b"")


def parse(record: bytes, where: str) -> Piece | Owner:
    """What a record says; `where` it stands is for the error. Raises LogDamaged."""
    if len(record) < _HEAD.size or record[:4] != _MAGIC:
        raise LogDamaged(f"{where} is no record of an engine: something else writes to this log")
    _, kind, epoch, number, at, pieces, checksum = _HEAD.unpack_from(record)
    payload = record[_HEAD.size :]
    if checksum != zlib.crc32(payload, zlib.crc32(record[:_CHECKSUM_AT])):
        raise LogDamaged(f"{where} is damaged: its checksum does not fit")
    if kind not in (_COMMIT, _OWNER):
        raise LogDamaged(f"{where} is of a later release: its kind is {kind}")
    position = Position(epoch, number)
    return Owner(position) if kind == _OWNER else Piece(position, at, pieces, payload)


def _framed(kind: int, position: Position, at: int, pieces: int, payload: bytes) -> bytes:
    head = _HEAD.pack(_MAGIC, kind, position.epoch, position.number, at, pieces, 0)[:_CHECKSUM_AT]
    return head + zlib.crc32(payload, zlib.crc32(head)).to_bytes(4, "little") + payload


class Assembly:
    """Records in, whole commits out, each once and in their order."""

    def __init__(self, position: Position) -> None:
        """`position` is behind what was read and used before."""
        self.position = position
        self._pieces: list[bytes] = []

    def take(self, record: bytes, where: str) -> Iterator[tuple[Position, bytes | None]]:
        """(position behind it, packed commit, or None for a new owner), once one is whole.

        What comes again, and what a former owner sends late, gives nothing. Raises LogDamaged.
        """
        found = parse(record, where)
        if isinstance(found, Owner):
            yield from self._own(found.position, where)
        elif found.position.epoch > self.position.epoch:
            raise LogDamaged(f"{where} is of the owner {found.position.epoch}, which never said that it took over")
        elif found.position.epoch == self.position.epoch and found.position.number > self.position.number:
            yield from self._gather(found, where)

    def _own(self, position: Position, where: str) -> Iterator[tuple[Position, None]]:
        if position.epoch <= self.position.epoch:
            return
        if position.number != self.position.number:
            raise LogDamaged(
                f"{where}: an owner took over behind commit {position.number}, and the log has come to"
                f" {self.position.number}: commits are missing"
            )
        self._pieces.clear()
        self.position = position
        yield position, None

    def _gather(self, piece: Piece, where: str) -> Iterator[tuple[Position, bytes]]:
        if piece.position.number != self.position.number + 1:
            raise LogDamaged(
                f"{where} is commit {piece.position.number}, after {self.position.number}: commits are missing"
            )
        if piece.at < len(self._pieces):
            return
        if piece.at > len(self._pieces) or piece.at >= piece.pieces:
            raise LogDamaged(f"{where} is piece {piece.at} of a commit of which piece {len(self._pieces)} is missing")
        self._pieces.append(piece.payload)
        if len(self._pieces) == piece.pieces:
            packed = b"".join(self._pieces)
            self._pieces.clear()
            self.position = piece.position
            yield piece.position, packed
