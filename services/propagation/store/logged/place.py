"""How far a store has come in its log, kept in the store itself: it is written with each commit.

The place where a commit stands in the log is known only when the log has it, after the store has applied it. So two
things are kept: the position of the store, and the newest commit whose place was known then, the *anchor*, from which
on the log is read again.
"""

from dataclasses import dataclass
from struct import Struct

from services.propagation.store.interface import Commit, Store
from services.propagation.store.logged.records import Position

KIND = "log"
_KEY = b"place"
_PLACE = Struct(">QQQQq")


@dataclass(frozen=True, slots=True)
class Anchor:
    """The last record of the commit at `position`, or the word of its owner, stands at `offset`. -1: the beginning."""

    position: Position
    offset: int


@dataclass(frozen=True, slots=True)
class Place:
    """The store has applied everything up to `position`, in the epoch of the anchor."""

    position: Position
    anchor: Anchor


BEGINNING = Place(Position(0, 0), Anchor(Position(0, 0), -1))


def read_place(store: Store) -> Place:
    """Where the store is; the beginning for a new one."""
    kept = store.get_record(KIND, _KEY)
    if kept is None:
        return BEGINNING
    epoch, number, anchor_epoch, anchor_number, offset = _PLACE.unpack(kept)
    return Place(Position(epoch, number), Anchor(Position(anchor_epoch, anchor_number), offset))


def put_place(commit: Commit, place: Place) -> None:
    """Puts it into the commit that brings the store there."""
    at, anchor = place.position, place.anchor
    packed = _PLACE.pack(at.epoch, at.number, anchor.position.epoch, anchor.position.number, anchor.offset)
    commit.put_record(KIND, _KEY, packed)
