"""What each dependent depends on: sets of 32 dependents a block; a commit reads, changes and writes each block once."""

import numpy as np

from libs.embedded.family import Family
from services.propagation.store import edges, set_blocks
from services.propagation.store.edges import Keys, pair, unpair
from services.propagation.store.embedded_layout import u16
from services.propagation.store.interface import EdgeDelta, Numbers
from services.propagation.store.numbers import group_starts

_SHIFT = np.uint64(32)


class Forward:
    """Reads of the family."""

    def __init__(self, family: Family) -> None:
        self.family = family

    def read(self, view: int, resources: Numbers) -> tuple[Numbers, Numbers]:
        """(counts, inputs) of resources in any order."""
        ordered = np.sort(resources >> set_blocks.BITS)
        blocks = ordered[group_starts(ordered)]
        held = _decode(blocks, self.family.get_many(_keys(view, blocks)))
        wanted = resources.astype(np.uint64) << _SHIFT
        starts = np.searchsorted(held, wanted)
        counts = np.searchsorted(held, wanted + (np.uint64(1) << _SHIFT)) - starts
        before = np.cumsum(counts) - counts
        places = np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
        return counts.astype(np.uint32), held[places].astype(np.uint32)


class ForwardDraft:
    """The blocks that one commit changes, as they will be."""

    def __init__(self, forward: Forward) -> None:
        self._family = forward.family
        self._blocks: dict[bytes, bytes] = {}

    def blocks(self) -> list[tuple[bytes, bytes | None]]:
        """The changed blocks by key; None where nothing is left."""
        return [(key, value or None) for key, value in self._blocks.items()]

    def change(
        self, view: int, dependents: Numbers, counts: Numbers, inputs: Numbers, remove: bool | None
    ) -> EdgeDelta:
        """Replaces the sets (`remove` None), adds to them or removes from them; answers what that changes."""
        owners = dependents >> set_blocks.BITS
        blocks = owners[group_starts(owners)]
        names = _keys(view, blocks)
        held = _decode(blocks, self._read(names))
        places = np.searchsorted(dependents, (held >> _SHIFT).astype(np.uint32))
        places[places == len(dependents)] = 0
        mine = dependents[places] == (held >> _SHIFT) if len(dependents) else np.zeros(len(held), np.bool_)
        old = held[mine]
        named = edges.keys_of(counts, inputs)
        rows, values = unpair(named)
        new = pair(dependents[rows], values)
        if remove is not None:
            new = edges.merge(old, new, remove=remove)
        added, removed = edges.difference(old, new)
        if len(added) or len(removed):
            self._put(names, blocks, np.concatenate((held[~mine], new)))
        return EdgeDelta(*unpair(added), *unpair(removed))

    def _put(self, names: list[bytes], blocks: Numbers, keys: Keys) -> None:
        keys.sort()
        left, values = set_blocks.encode(keys)
        self._blocks.update(dict.fromkeys(names, b""))
        places = np.searchsorted(blocks, left).tolist()
        self._blocks.update({names[place]: value for place, value in zip(places, values, strict=True)})

    def _read(self, names: list[bytes]) -> list[bytes | None]:
        if not self._blocks or self._blocks.keys().isdisjoint(names):
            return self._family.get_many(names)
        rest = [name for name in names if name not in self._blocks]
        found: dict[bytes, bytes | None] = dict(zip(rest, self._family.get_many(rest), strict=True))
        return [self._blocks[name] if name in self._blocks else found[name] for name in names]


def _keys(view: int, blocks: Numbers) -> list[bytes]:
    head, raw = u16(view), blocks.astype(">u4").tobytes()
    return [head + raw[at : at + 4] for at in range(0, len(raw), 4)]


def _decode(blocks: Numbers, values: list[bytes | None]) -> Keys:
    there = [value for value in values if value]
    if len(there) < len(values):
        blocks = blocks[np.fromiter(map(bool, values), np.bool_, len(values))]
    return set_blocks.decode(blocks, there)
