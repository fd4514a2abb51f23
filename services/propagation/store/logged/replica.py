"""A store that follows a log: it applies what the records say, and nothing else.

What a store has applied is a beginning of the log, unless its owner was killed before the log had its last commits. All
commits behind an anchor are of the anchor's epoch; so whether the log has them shows in their numbers: the log goes on
to them, or another owner began before them, or the log ends.
"""

from services.propagation.store.logged.packed_commit import replay
from services.propagation.store.logged.place import Anchor, Place, put_place, read_place
from services.propagation.store.logged.records import Assembly, Owner, Position, parse
from services.propagation.store.logged.store import NumberedStore


class Diverged(Exception):
    """The store has what the log has not: commits that were never acknowledged. It is to be made anew."""


class Replica:
    """Give it the records of the log, one after the other, from `begins_at` on."""

    def __init__(self, below: NumberedStore) -> None:
        self._below = below
        self._kept = read_place(below)
        anchor = self._kept.anchor
        self._assembly = Assembly(anchor.position)
        self._anchored = anchor.offset < 0
        self._seen = anchor.offset - 1

    @property
    def begins_at(self) -> int:
        """The offset of the first record to give."""
        return max(0, self._kept.anchor.offset)

    @property
    def position(self) -> Position:
        """How far the log was read."""
        return self._assembly.position

    @property
    def proven(self) -> bool:
        """Whether all that the store has is known to be in the log."""
        return self._anchored and self.position.number >= self._kept.position.number

    def take(self, offset: int, record: bytes) -> None:
        """Applies what is whole with this record. An offset that was given before gives nothing.

        Raises LogDamaged, CommitDamaged, Diverged, and what the store raises when it takes no writes.
        """
        if offset <= self._seen:
            return
        where = f"the log's record {offset}"
        if not self._anchored:
            self._check_anchor(offset, record, where)
            self._anchored = True
        else:
            for position, packed in self._assembly.take(record, where):
                self._apply(position, packed, offset)
        self._seen = offset

    def caught_up(self) -> Position:
        """To be called when the log has no more; answers how far it is. Raises Diverged when the store is ahead."""
        if not self.proven:
            raise Diverged
        return self.position

    def _check_anchor(self, offset: int, record: bytes, where: str) -> None:
        """The anchor's record must stand where it stood."""
        found = parse(record, where)
        last = isinstance(found, Owner) or found.at == found.pieces - 1
        if not last or Anchor(found.position, offset) != self._kept.anchor:
            raise Diverged

    def _apply(self, position: Position, packed: bytes | None, offset: int) -> None:
        kept = self._kept.position
        if position <= kept:
            return  # applied before: an owner numbers its commits once
        if position.number < kept.number:
            raise Diverged
        commit = self._below.begin()
        if packed is not None:
            replay(packed, commit)
        put_place(commit, Place(position, Anchor(position, offset)))
        commit.patient = True
        self._below.write(commit)
