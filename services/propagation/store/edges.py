"""Sets of edges as sorted keys: (index of the dependent) << 32 | input. Their differences are one sort each."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.propagation.store.interface import EdgeDelta, Numbers, UnknownNumber

Keys = npt.NDArray[np.uint64]

_SHIFT = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)


def keys_of(counts: Numbers, inputs: Numbers) -> Keys:
    """Ascending keys without doubles of the sets that (counts, inputs) describe.

    Raises ValueError when the counts do not add up to the number of inputs.
    """
    if int(counts.sum(dtype=np.int64)) != len(inputs):
        raise ValueError(f"counts add up to {int(counts.sum(dtype=np.int64))}, inputs are {len(inputs)}")
    keys = pair(np.repeat(np.arange(len(counts), dtype=np.uint32), counts), inputs)
    if len(keys) > 1 and not bool((keys[1:] > keys[:-1]).all()):
        keys.sort()
        keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
    return keys


def split(keys: Keys, count: int) -> tuple[Numbers, Numbers]:
    """(counts, inputs) of ascending keys of `count` dependents."""
    ends = np.searchsorted(keys, np.arange(1, count + 1, dtype=np.uint64) << _SHIFT)
    return np.diff(ends, prepend=0).astype(np.uint32), (keys & _LOW).astype(np.uint32)


def difference(old: Keys, new: Keys) -> tuple[Keys, Keys]:
    """(in new only, in old only) of two ascending arrays without doubles. Keys are below 2^63."""
    if not len(old) or not len(new):
        return new, old
    tagged = np.concatenate((old << _ONE, (new << _ONE) | _ONE))
    tagged.sort()
    plain = tagged >> _ONE
    equal = plain[1:] == plain[:-1]
    alone = np.ones(len(plain), np.bool_)
    alone[1:] &= ~equal
    alone[:-1] &= ~equal
    fresh = (tagged & _ONE).astype(np.bool_)
    return plain[alone & fresh], plain[alone & ~fresh]


def merge(old: Keys, more: Keys, *, remove: bool) -> Keys:
    """`old` with `more` added or taken away, ascending."""
    added, _ = difference(old, more)
    if not remove:
        both = np.concatenate((old, added))
        both.sort()
        return both
    return difference(more, old)[0]


def delta(dependents: Numbers, added: Keys, removed: Keys) -> EdgeDelta:
    """The edges behind the keys of added and removed edges."""
    return EdgeDelta(
        dependents[(added >> _SHIFT).astype(np.int64)],
        (added & _LOW).astype(np.uint32),
        dependents[(removed >> _SHIFT).astype(np.int64)],
        (removed & _LOW).astype(np.uint32),
    )


@dataclass(slots=True)
class NetEdges:
    """What several deltas of one view come to: an edge that was added and removed again is neither."""

    added: list[Keys]
    removed: list[Keys]

    def gather(self, change: EdgeDelta) -> None:
        """Takes one more delta. Keys here are input << 32 | dependent, so that they sort by input."""
        self.added.append(pair(change.added_inputs, change.added_dependents))
        self.removed.append(pair(change.removed_inputs, change.removed_dependents))

    def net(self) -> tuple[Keys, Keys]:
        """(added, removed), each ascending by input, then dependent."""
        added, removed = (
            np.sort(np.concatenate(self.added)),
            np.sort(np.concatenate(self.removed)),
        )
        if len(self.added) == 1 or not len(added) or not len(removed):
            return added, removed
        # Within one commit an edge is added and removed in turns, so what remains is the surplus, at most one.
        edges = np.concatenate((added, removed))
        sign = np.concatenate((np.ones(len(added), np.int8), np.full(len(removed), -1, np.int8)))
        order = np.argsort(edges, kind="stable")
        edges, sign = edges[order], sign[order]
        starts = np.flatnonzero(np.concatenate(([True], edges[1:] != edges[:-1])))
        surplus = np.add.reduceat(sign, starts)
        edges = edges[starts]
        return edges[surplus > 0], edges[surplus < 0]


def pair(high: Numbers, low: Numbers) -> Keys:
    """high << 32 | low."""
    return (high.astype(np.uint64) << _SHIFT) | low


def unpair(keys: Keys) -> tuple[Numbers, Numbers]:
    """(high, low)."""
    return (keys >> _SHIFT).astype(np.uint32), (keys & _LOW).astype(np.uint32)


def check(
    dependents: Numbers,
    counts: Numbers,
    inputs: Numbers,
    resources: int,
    known_inputs: int,
) -> None:
    """Raises ValueError for dependents not ascending or wrong lengths, UnknownNumber for numbers never given."""
    if len(dependents) != len(counts):
        raise ValueError(f"{len(dependents)} dependents have {len(counts)} counts")
    if len(dependents) > 1 and not bool((dependents[1:] > dependents[:-1]).all()):
        raise ValueError("dependents must ascend, without doubles")
    check_known(dependents, resources, "resource")
    check_known(inputs, known_inputs, "input")


def check_known(numbers: Numbers, given: int, what: str) -> None:
    """Raises UnknownNumber when one of the numbers is not below `given`."""
    if len(numbers) and int(numbers.max()) >= given:
        raise UnknownNumber(f"{what} number {int(numbers.max())} was never given; {given} are")
