"""A store that is the copy of a shard, to become a part of it: which resources are whose."""

import asyncio
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from services.propagation.domain.holds import DEAD, unpack
from services.propagation.domain.interest import Interest
from services.propagation.domain.partition import Part, shard_of
from services.propagation.store.interface import Numbers, Store, UnknownNumber
from services.propagation.store.numbers import to_set

_NAMES = 1 << 16


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy of shard `parent` of `before`, which becomes `part`. `parts[number]` is the shard of a resource; `dead`
    are the dead letters of each root, by shard."""

    store: Store
    part: Part
    before: int
    parts: npt.NDArray[np.uint8]
    mine: BitMap
    dead: dict[int, dict[int, int]]
    _interest: list[Interest] = field(default_factory=list)

    @property
    def interest(self) -> Interest:
        """What others want of it, once that is by their new numbers."""
        if not self._interest:
            self._interest.append(Interest(self.store))
        return self._interest[0]

    @property
    def children(self) -> range:
        """The shards that the parent became."""
        return self.children_of(self.parent)

    def children_of(self, shard: int) -> range:
        """The shards that one of before became."""
        times = self.part.shards // self.before
        return range(shard * times, shard * times + times)

    @property
    def parent(self) -> int:
        """Its number before."""
        return self.part.number * self.before // self.part.shards

    @property
    def is_first(self) -> bool:
        """Whether what is kept once only is kept here."""
        return self.part.number == self.children[0]

    def foreign(self, numbers: Numbers) -> Numbers:
        """Those that are not of this part."""
        foreign: Numbers = numbers[self.parts[numbers] != self.part.number]
        return foreign


async def copy_of(store: Store, part: Part, before: int) -> Copy:
    """Of a store that was one of `before` shards."""
    parts = np.zeros(store.resource_count, np.uint8)
    for first in range(0, len(parts), _NAMES):
        numbers = np.arange(first, min(first + _NAMES, len(parts)), dtype=np.uint32)
        parts[first : first + _NAMES] = [shard_of(name.decode(), part.shards) for name in names_of(store, numbers)]
        await asyncio.sleep(0)
    dead: dict[int, dict[int, int]] = {}
    for record_key, value in store.records(DEAD):
        held = unpack(record_key, value)
        by_shard = dead.setdefault(held.root, {})
        shard = int(parts[held.resource])
        by_shard[shard] = by_shard.get(shard, 0) + 1
    mine = to_set(np.flatnonzero(parts == part.number).astype(np.uint32))
    return Copy(store, part, before, parts, mine, dead)


def names_of(store: Store, numbers: Numbers) -> list[bytes]:
    """The names of numbers that follow each other; empty for those that were given to nothing."""
    try:
        return store.resource_names(numbers)
    except UnknownNumber:
        return [_name_of(store, number) for number in numbers.tolist()]


def _name_of(store: Store, number: int) -> bytes:
    try:
        return store.resource_names(np.array([number], np.uint32))[0]
    except UnknownNumber:
        return b""
