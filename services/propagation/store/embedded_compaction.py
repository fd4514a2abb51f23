"""Folding arrivals into the reverse direction's sets, a bounded piece at a time.

What has arrived is counted in memory by group or hub part. Due is a group whose arrivals are many records and a good
share of what they are folded into, so that every edge is rewritten a few times at most; the others wait for an idle
moment. What an earlier run of the process left is found by a sweep over the keys, continued by each call until it ends.
"""

from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from services.propagation.store import embedded_arrivals as arrivals
from services.propagation.store import hub_sets, set_blocks
from services.propagation.store.edges import Keys
from services.propagation.store.embedded_draft import Draft
from services.propagation.store.embedded_layout import u32
from services.propagation.store.embedded_reverse import Reverse, small_key
from services.propagation.store.numbers import group_starts

_DUE_RECORDS = 64
# However large the folded sets are: a read goes through all of these records.
_OVERDUE_RECORDS = 1_024
_DUE_SHARE = 0.25
# A set in a shared block is rewritten with its 31 neighbours; beyond this size it becomes a hub's.
_MOST_IN_BLOCK = 2_048
_SWEEP_KEYS = 20_000
_SHIFT = np.uint64(32)
_BLOCK = np.uint64(32 + set_blocks.BITS)


@dataclass(slots=True)
class Waiting:
    """Arrivals of one group or hub part, and the edges that it held when it was last folded (0: not known)."""

    records: int = 0
    edges: int = 0
    folded: int = 0

    def due(self) -> bool:
        """Whether folding pays now."""
        return self.records >= _DUE_RECORDS and (
            self.edges >= _DUE_SHARE * self.folded or self.records >= _OVERDUE_RECORDS
        )


class Compaction:
    """Knows what waits, and folds it. `note`, `drafted` and `fold` are of the thread that writes."""

    def __init__(self, reverse: Reverse, epoch: int) -> None:
        """`epoch` is the upper half of the numbers of this run's commits, which the sweep passes over."""
        self._reverse = reverse
        self._epoch = u32(epoch)
        self._waiting: dict[bytes, Waiting] = {}
        self._due: dict[bytes, None] = {}
        self._idle: dict[bytes, None] = {}
        self._sweep: bytes | None = arrivals.HUB

    @property
    def due(self) -> bool:
        """Whether folding pays now."""
        return bool(self._due)

    @property
    def waits(self) -> bool:
        """Whether anything is known to wait, or may be."""
        return bool(self._due or self._idle or self._sweep is not None)

    def note(self, key: bytes, edges: int) -> None:
        """A record arrived: its key without the commit."""
        waiting = self._waiting.setdefault(key, Waiting())
        waiting.records += 1
        waiting.edges += edges
        if waiting.due():
            self._due[key] = None
        else:
            self._idle[key] = None

    def sweep(self, keys: int = _SWEEP_KEYS) -> None:
        """Counts more of what an earlier run left."""
        if self._sweep is None:
            return
        page = self._reverse.arrived.page(start=self._sweep, max_items=keys, max_bytes=keys << 10)
        for key, value in page.items:
            if not key.endswith(self._epoch, 0, -arrivals.COUNTER_BYTES):
                self.note(key[: -arrivals.COMMIT_BYTES], arrivals.edges_in(key, len(value)))
        self._sweep = page.resume

    def take(self) -> bytes | None:
        """The next key to fold: what is due first; None when nothing is known to wait."""
        while self._sweep is not None and not self._due and not self._idle:
            self.sweep()
        for queue in (self._due, self._idle):
            if queue:
                key = next(iter(queue))
                self._due.pop(key, None)
                self._idle.pop(key, None)
                return key
        return None

    def fold(self, draft: Draft, key: bytes, commit: int) -> tuple[int, int]:
        """Folds what waits at a key into a write; answers (edges that had arrived, edges rewritten)."""
        records = list(self._reverse.arrived.scan(key))
        for name, _ in records:
            draft.delete(self._reverse.arrived, name)
        values = [value for _, value in records]
        if key.startswith(arrivals.HUB):
            arrived, left = self._fold_hub(draft, key, values)
            self._waiting.pop(key, None)
        else:
            arrived, left = self._fold_group(draft, key, values, commit)
            self._waiting[key] = Waiting(folded=left)
        return arrived, left

    def _fold_hub(self, draft: Draft, key: bytes, values: list[bytes]) -> tuple[int, int]:
        folded = self._reverse.folded
        held = folded.get(key)
        members = hub_sets.decode(held) if held else BitMap()
        arrived = 0
        for value in values:
            toggled = hub_sets.decode(value)
            arrived += len(toggled)
            members ^= toggled
        if members:
            draft.put(folded, key, hub_sets.encode_set(members))
        else:
            draft.delete(folded, key)
        return arrived, len(members)

    def _fold_group(self, draft: Draft, key: bytes, values: list[bytes], commit: int) -> tuple[int, int]:
        folded, view = self._reverse.folded, int.from_bytes(key[5:7], "big")
        toggles = arrivals.shared(values, int.from_bytes(key[1:5], "big"))
        touched = np.sort((toggles >> _BLOCK).astype(np.uint32))
        blocks = touched[group_starts(touched)]
        names = [small_key(block, key[5:7]) for block in blocks.tolist()]
        held = folded.get_many(names)
        there = np.fromiter(map(bool, held), np.bool_, len(held))
        old = set_blocks.decode(blocks[there], [value for value in held if value])
        keys = np.concatenate((old, toggles))
        keys.sort()
        keys = self._promote(draft, view, commit, arrivals.odd(keys))
        draft.put_many(folded, dict.fromkeys(names, None).items())
        left, encoded = set_blocks.encode(keys)
        places = np.searchsorted(blocks, left).tolist()
        draft.put_many(folded, zip([names[place] for place in places], encoded, strict=True))
        return len(toggles), len(keys)

    def _promote(self, draft: Draft, view: int, commit: int, keys: Keys) -> Keys:
        """Moves sets that are too large for a block to records of their own; answers the others."""
        starts = group_starts((keys >> _SHIFT).astype(np.uint32))
        sizes = np.diff(starts, append=len(keys))
        large = np.repeat(sizes > _MOST_IN_BLOCK, sizes)
        if large.any():
            for key, edges in list(arrivals.draft(draft, self._reverse.arrived, view, commit, keys[large])):
                self.note(key, edges)
            keys = keys[~large]
        return keys
