"""What depends on each input: folded sets, on top of them the arrivals not folded yet, and what came lately."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator

import numpy as np
from pyroaring import BitMap

from libs.embedded.family import Family
from services.propagation.store import embedded_arrivals as arrivals
from services.propagation.store import hub_sets, set_blocks
from services.propagation.store.edges import Keys, unpair
from services.propagation.store.embedded_layout import u16, u32
from services.propagation.store.embedded_recent import Recent
from services.propagation.store.interface import Numbers
from services.propagation.store.numbers import group_starts, to_set

_NO_KEYS = np.empty(0, np.uint64)


class Reverse:
    """Reads of both families."""

    def __init__(self, folded: Family, arrived: Family, recent: Recent) -> None:
        self.folded = folded
        self.arrived = arrived
        self._recent = recent

    def dependents(self, input_number: int) -> dict[int, BitMap]:
        """By view: the set, never empty."""
        found: dict[int, BitMap] = {}
        self._small(input_number, found)
        self._hub(input_number, found)
        for view, toggled in self._recent.of(input_number):
            _toggle(found, view, to_set(toggled))
        return {view: members for view, members in found.items() if members}

    def dependents_of(self, inputs: Numbers, views: Iterable[int]) -> dict[int, BitMap]:
        """By view, of those given: the union of the inputs' sets, never empty."""
        ordered = np.sort(inputs)
        ordered = ordered[group_starts(ordered)]
        hubs = self._hubs_among(ordered.tolist())
        found: dict[int, BitMap] = {}
        for number in hubs:
            for view, members in self.dependents(number).items():
                found[view] = found.get(view, BitMap()) | members
        small = ordered[np.isin(ordered, hubs, invert=True)] if hubs else ordered
        for view, edges in self._small_edges(small, views):
            found[view] = found.get(view, BitMap()) | to_set(unpair(edges)[1])
        return found

    def dependents_each(self, inputs: Numbers, views: Iterable[int]) -> list[dict[int, BitMap]]:
        """By view, of those given, for each input: the set, never empty."""
        ordered = np.sort(inputs)
        ordered = ordered[group_starts(ordered)]
        hubs = self._hubs_among(ordered.tolist())
        found: dict[int, dict[int, BitMap]] = {number: self.dependents(number) for number in hubs}
        small = ordered[np.isin(ordered, hubs, invert=True)] if hubs else ordered
        for view, edges in self._small_edges(small, views):
            owners, dependents = unpair(edges)
            starts = group_starts(owners)
            cuts = [*starts.tolist(), len(owners)]
            for owner, start, end in zip(owners[starts].tolist(), cuts, cuts[1:], strict=False):
                found.setdefault(owner, {})[view] = to_set(dependents[start:end])
        # Each set has one owner: an input that is named again gets its own.
        given: set[int] = set()
        answer = []
        for number in inputs.tolist():
            mine = found.get(number, {})
            answer.append({view: members.copy() for view, members in mine.items()} if number in given else mine)
            given.add(number)
        return answer

    def _small_edges(self, inputs: Numbers, views: Iterable[int]) -> Iterator[tuple[int, Keys]]:
        """(view, edges) of ascending inputs that are no hubs, ascending; none without edges."""
        arrived = self._arrived_of(inputs)
        for view in views:
            recent = self._recent.of_many(view, inputs)
            toggles = np.concatenate((self._folded_of(inputs, view), arrived.get(view, _NO_KEYS), recent))
            toggles.sort()
            edges = arrivals.odd(toggles)
            if len(edges):
                yield view, edges

    def _hubs_among(self, inputs: list[int]) -> list[int]:
        """Those of ascending inputs that have records of their own: one look for each, fewer where there are gaps."""
        hubs: set[int] = set()
        for family in (self.folded, self.arrived):
            at = 0
            while at < len(inputs):
                key = next(family.scan_keys(start=arrivals.hub_prefix(inputs[at]), end=arrivals.HUB_END), None)
                if key is None:
                    break
                number = int.from_bytes(key[1:5], "big")
                if number == inputs[at]:
                    hubs.add(number)
                    at += 1
                else:
                    at = bisect_left(inputs, number, at)
        return list(hubs)

    def _folded_of(self, inputs: Numbers, view: int) -> Keys:
        """The folded edges of ascending inputs, as keys."""
        blocks_of = inputs >> set_blocks.BITS
        blocks = blocks_of[group_starts(blocks_of)]
        suffix = u16(view)
        values = self.folded.get_many([small_key(block, suffix) for block in blocks.tolist()])
        there = np.fromiter(map(bool, values), np.bool_, len(values))
        return _only(set_blocks.decode(blocks[there], [value for value in values if value]), inputs)

    def _arrived_of(self, inputs: Numbers) -> dict[int, Keys]:
        """By view: what shared records toggle for ascending inputs, as keys."""
        groups_of = inputs >> arrivals.GROUP_BITS
        found: dict[int, list[Keys]] = {}
        for group in groups_of[group_starts(groups_of)].tolist():
            records: dict[int, list[bytes]] = {}
            for key, value in self.arrived.scan(arrivals.SHARED + u32(group)):
                records.setdefault(int.from_bytes(key[5:7], "big"), []).append(value)
            for view, values in records.items():
                found.setdefault(view, []).append(_only(arrivals.shared(values, group), inputs))
        return {view: np.concatenate(parts) for view, parts in found.items()}

    def _small(self, input_number: int, found: dict[int, BitMap]) -> None:
        for key, value in self.folded.scan(small_key(input_number >> set_blocks.BITS)):
            members = set_blocks.members(value, input_number)
            if len(members):
                _toggle(found, int.from_bytes(key[-2:], "big"), to_set(members))
        values: dict[int, list[bytes]] = {}
        for key, value in self.arrived.scan(arrivals.shared_prefix(input_number)):
            values.setdefault(int.from_bytes(key[5:7], "big"), []).append(value)
        for view, records in values.items():
            toggled = arrivals.shared_of(records, input_number)
            if len(toggled):
                _toggle(found, view, to_set(arrivals.odd(np.sort(toggled))))

    def _hub(self, input_number: int, found: dict[int, BitMap]) -> None:
        prefix = arrivals.hub_prefix(input_number)
        for family in (self.folded, self.arrived):
            for key, value in family.scan(prefix):
                _toggle(found, int.from_bytes(key[5:7], "big"), hub_sets.decode(value))


def _only(keys: Keys, inputs: Numbers) -> Keys:
    """The keys of these inputs, which ascend."""
    if not len(keys) or not len(inputs):
        return keys[:0]
    numbers = unpair(keys)[0]
    places = np.minimum(np.searchsorted(inputs, numbers), len(inputs) - 1)
    kept: Keys = keys[inputs[places] == numbers]
    return kept


def small_key(block: int, view: bytes = b"") -> bytes:
    """The key of a folded block of 32 inputs."""
    return arrivals.SHARED + u32(block) + view


def _toggle(found: dict[int, BitMap], view: int, members: BitMap) -> None:
    held = found.get(view)
    if held is None:
        found[view] = members
    else:
        held ^= members
