"""Outputs that other shards depend on, and what of their changes these shards have still to be told.

An edge on an output of another shard is committed there once this shard knows, durably, who wants the output
(`register`); what nobody elsewhere wants is told to nobody. A completion that changes wanted outputs has a record for
each shard that wants some of them, in its own commit (`note`). A root that such a record names does not end before
that shard has taken it: there the dependents are pending under the root of the same id by then (hearing.py).

=========  ===========================================  ======================================================
kind       key                                          value
=========  ===========================================  ======================================================
interest   view (2 bytes), shard (1), chunk (4)         the resources of the chunk, a bitmap
untold     shard (1), number of its own (8)             what changed: see Untold
=========  ===========================================  ======================================================
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from struct import Struct

from pyroaring import BitMap

from services.propagation.domain.roots import MAX_LEVEL, Group, Root
from services.propagation.domain.sequence import decode, encode
from services.propagation.store.interface import Commit, Store

INTEREST = "interest"
UNTOLD = "untold"
_KEY = Struct(">HBI")
_CHUNK_BITS = 12
"""4,096 resources: half a KiB is written for an output that is wanted anew."""
_MOST_TOGETHER = 2_000
"""Outputs of one record: what is told in one piece."""
_HEAD = Struct(">QHHI")
_PART = Struct(">QHI")

Wanting = tuple[Root, Group, BitMap]


@dataclass(frozen=True, slots=True)
class Part:
    """Outputs that changed under a root, whose dependents are at `level`; `items` are resource numbers."""

    root: int
    level: int
    items: BitMap


@dataclass(frozen=True, slots=True)
class Untold:
    """Outputs of `view` that changed by the completion of the lease that began at `lease`."""

    number: int
    view: int
    lease: int
    items: BitMap
    parts: tuple[Part, ...]

    def put(self, commit: Commit, shard: int) -> None:
        """Writes the record."""
        items = self.items.serialize()
        value = [_HEAD.pack(self.lease, self.view, len(self.parts), len(items)), items]
        for part in self.parts:
            members = part.items.serialize()
            value += [_PART.pack(part.root, part.level, len(members)), members]
        commit.put_record(UNTOLD, bytes([shard]) + encode(self.number), b"".join(value))

    def within(self, items: BitMap) -> "Untold | None":
        """Of these resources alone; None where there is none of them."""
        if not (mine := self.items & items):
            return None
        parts = tuple(replace(part, items=kept) for part in self.parts if (kept := part.items & items))
        return replace(self, items=mine, parts=parts)

    @classmethod
    def unpack(cls, key: bytes, value: bytes) -> "Untold":
        """Of a record."""
        lease, view, count, size = _HEAD.unpack_from(value)
        at = _HEAD.size + size
        items = BitMap.deserialize(value[_HEAD.size : at])
        parts: list[Part] = []
        for _ in range(count):
            root, level, size = _PART.unpack_from(value, at)
            at += _PART.size + size
            parts.append(Part(root, level, BitMap.deserialize(value[at - size : at])))
        return cls(decode(key[1:]), view, lease, items, tuple(parts))


class Interest:
    """Of one shard. Each shard that waits has `waiting` records of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wanted: dict[int, dict[int, BitMap]] = {}
        self.waiting: dict[int, int] = {}
        self.load()

    def load(self) -> None:
        """Reads who wants what, and how much is untold."""
        self._wanted.clear()
        self.waiting.clear()
        for key, value in self._store.records(INTEREST):
            view, shard, _ = _KEY.unpack(key)
            self._of(view, shard).update(BitMap.deserialize(value))
        for key, _ in self._store.records(UNTOLD):
            self.waiting[key[0]] = self.waiting.get(key[0], 0) + 1

    def _of(self, view: int, shard: int) -> BitMap:
        return self._wanted.setdefault(view, {}).setdefault(shard, BitMap())

    def register(self, commit: Commit, view: int, shard: int, items: BitMap) -> None:
        """The shard wants to be told of these outputs of the view, from this commit on."""
        wanted = self._of(view, shard)
        new = items - wanted
        wanted |= new
        for chunk in {item >> _CHUNK_BITS for item in new}:
            first = chunk << _CHUNK_BITS
            members = wanted & BitMap(range(first, first + (1 << _CHUNK_BITS)))
            commit.put_record(INTEREST, _KEY.pack(view, shard, chunk), members.serialize())

    def empty(self) -> "Interest":
        """Of the same store, of a shard of which nobody wants anything."""
        made = Interest(self._store)
        made._wanted.clear()
        made.waiting.clear()
        return made

    def every_interest(self) -> Iterator[tuple[int, int, BitMap]]:
        """(view, shard, what it wants), of all."""
        for view, by_shard in self._wanted.items():
            yield from ((view, shard, items) for shard, items in by_shard.items())

    def wanted(self, view: int, changed: BitMap) -> BitMap:
        """Those of the changed outputs that some shard wants."""
        found = BitMap()
        for items in self._wanted.get(view, {}).values():
            found |= changed & items
        return found

    def wanted_by(self, view: int, outputs: BitMap) -> Iterator[tuple[int, BitMap]]:
        """(shard, those of the outputs that it wants), of each that wants some."""
        for shard, items in self._wanted.get(view, {}).items():
            if mine := outputs & items:
                yield shard, mine

    def note(
        self,
        commit: Commit,
        view: int,
        lease: int,
        changed: BitMap,
        wanting: Sequence[Wanting],
        next_number: Callable[[], int],
    ) -> None:
        """The outputs changed by a lease of this sequence; `wanting` is where they were pending."""
        for shard, items in self._wanted.get(view, {}).items():
            mine = changed & items
            for at in range(0, len(mine), _MOST_TOGETHER):
                some = mine[at : at + _MOST_TOGETHER]
                parts = [
                    (root, Part(root.sequence, min(group.level + 1, MAX_LEVEL), members & some))
                    for root, group, members in wanting
                    if members.intersect(some)
                ]
                Untold(next_number(), view, lease, some, tuple(part for _, part in parts)).put(commit, shard)
                self.waiting[shard] = self.waiting.get(shard, 0) + 1
                for root in {root.sequence: root for root, _ in parts}.values():
                    root.untold += 1

    def untold(self, shard: int, limit: int | None = None) -> Iterator[Untold]:
        """What the shard is still to be told, oldest first."""
        start, end = bytes([shard]), bytes([shard + 1])
        for key, value in self._store.records(UNTOLD, start=start, end=end, limit=limit):
            yield Untold.unpack(key, value)

    def every(self) -> Iterator[tuple[int, Untold]]:
        """(shard, what it is still to be told), of all."""
        for key, value in self._store.records(UNTOLD):
            yield key[0], Untold.unpack(key, value)

    def told(self, commit: Commit, shard: int, up_to: int, roots: dict[int, Root]) -> list[Root]:
        """The shard has all up to this number; answers the unfinished roots that waited for it."""
        moved: dict[int, Root] = {}
        for untold in self.untold(shard):
            if untold.number > up_to:
                break
            commit.delete_record(UNTOLD, bytes([shard]) + encode(untold.number))
            self.waiting[shard] -= 1
            for sequence in {part.root for part in untold.parts}:
                if sequence in roots:
                    roots[sequence].untold -= 1
                    moved[sequence] = roots[sequence]
        return list(moved.values())

    def count(self, roots: dict[int, Root]) -> None:
        """Counts anew what the unfinished roots wait for."""
        for root in roots.values():
            root.untold = 0
        for _, untold in self.every():
            for sequence in {part.root for part in untold.parts} & roots.keys():
                roots[sequence].untold += 1

    def hand_over(self, commit: Commit, older: Root, newer: Root) -> None:
        """What was to be told under `older` is told under `newer`."""
        if not older.untold:
            return
        for shard, untold in self.every():
            named = {part.root for part in untold.parts}
            if older.sequence in named:
                parts = [
                    replace(one, root=newer.sequence) if one.root == older.sequence else one for one in untold.parts
                ]
                replace(untold, parts=tuple(parts)).put(commit, shard)
                newer.untold += newer.sequence not in named
        older.untold = 0
