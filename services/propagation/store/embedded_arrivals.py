"""Arrivals: edges that came or went, as each commit leaves them for the reverse direction to fold in later.

A record is a toggle: an edge in it is there if it was not, and gone if it was. The dependents of an input are what is
in an odd number of the records and folded sets that name it, in whatever order and grouping they were folded. Toggles
are exact, because a commit's edges are the difference between the old and the new sets of the forward direction, and
are written with it.

Edges of one input in one part (hub_sets.py) that come 32 or more at a time get a record of their own; the others share
one for each 128 inputs: the input in the low seven bits of two bytes, the dependent in four.
"""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from libs.embedded.family import Family
from services.propagation.store import hub_sets
from services.propagation.store.edges import Keys, pair, unpair
from services.propagation.store.embedded_draft import Draft
from services.propagation.store.embedded_layout import u16, u32, u64
from services.propagation.store.interface import Numbers
from services.propagation.store.numbers import group_starts

GROUP_BITS = 7
# A commit's number: the epoch in the upper half, a counter in the lower.
COMMIT_BYTES = 8
COUNTER_BYTES = 4

SHARED = b"s"
HUB = b"h"
HUB_END = b"i"

_OWN_RECORD = 32
_EDGE = np.dtype([("input", "<u2"), ("dependent", "<u4")])
_PART = np.uint64(hub_sets.BITS)
_GROUP = np.uint64(32 + GROUP_BITS)


_Ordered = TypeVar("_Ordered", Keys, Numbers)


def odd(ordered: _Ordered) -> _Ordered:
    """Those that stand an odd number of times in an ascending array."""
    if len(ordered) < 2 or bool((ordered[1:] != ordered[:-1]).all()):
        return ordered
    starts = group_starts(ordered)
    surplus: _Ordered = ordered[starts[(np.diff(starts, append=len(ordered)) & 1).astype(np.bool_)]]
    return surplus


def shared_prefix(input_number: int) -> bytes:
    """Where the shared records of an input's group begin; the view and the commit follow."""
    return SHARED + u32(input_number >> GROUP_BITS)


def hub_prefix(input_number: int) -> bytes:
    """Where an input's own records begin, and its folded parts: the view and the part follow, then the commit."""
    return HUB + u32(input_number)


def are_worth_records(toggles: Keys) -> bool:
    """Whether ascending toggles have enough for each record that they would become."""
    return len(toggles) >= _OWN_RECORD * len(group_starts(toggles >> _GROUP))


def draft(draft: Draft, family: Family, view: int, commit: int, toggles: Keys) -> Iterator[tuple[bytes, int]]:
    """Puts toggles (input << 32 | dependent, ascending) into a write.

    Gives (key without the commit, edges) of each record.
    """
    changed, end = draft.changed(family), u64(commit)
    runs = group_starts(toggles >> _PART)
    sizes = np.diff(runs, append=len(toggles))
    own = sizes >= _OWN_RECORD
    for start, size in zip(runs[own].tolist(), sizes[own].tolist(), strict=True):
        inputs, dependents = unpair(toggles[start : start + size])
        key = hub_prefix(int(inputs[0])) + u16(view) + u16(int(dependents[0]) >> hub_sets.BITS)
        changed[key + end] = hub_sets.encode(dependents)
        yield key, size
    rest = toggles[np.repeat(~own, sizes)] if own.any() else toggles
    inputs, dependents = unpair(rest)
    records = np.empty(len(rest), _EDGE)
    records["input"], records["dependent"] = inputs & ((1 << GROUP_BITS) - 1), dependents
    packed, width = records.tobytes(), _EDGE.itemsize
    groups = group_starts(inputs >> GROUP_BITS)
    cuts = [*groups.tolist(), len(rest)]
    for first, start, stop in zip(inputs[groups].tolist(), cuts, cuts[1:], strict=False):
        key = shared_prefix(first) + u16(view)
        changed[key + end] = packed[start * width : stop * width]
        yield key, stop - start


def shared(values: list[bytes], group: int) -> Keys:
    """The toggles of shared records of one group and view, in their order."""
    records = np.frombuffer(b"".join(values), _EDGE)
    return pair(records["input"].astype(np.uint32) | np.uint32(group << GROUP_BITS), records["dependent"])


def shared_of(values: list[bytes], input_number: int) -> Numbers:
    """The dependents that shared records of its group toggle for one input, in their order."""
    records = np.frombuffer(b"".join(values), _EDGE)
    found: Numbers = records["dependent"][records["input"] == input_number & ((1 << GROUP_BITS) - 1)]
    return found


def edges_in(key: bytes, value_bytes: int) -> int:
    """About how many edges a record holds, by its key and the length of its value."""
    return value_bytes // _EDGE.itemsize if key[:1] == SHARED else value_bytes // 2
