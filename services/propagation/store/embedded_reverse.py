"""What depends on each input: folded sets, and on top of them the arrivals that are not folded yet."""

import numpy as np
from pyroaring import BitMap

from libs.embedded.family import Family
from services.propagation.store import embedded_arrivals as arrivals
from services.propagation.store import hub_sets, set_blocks
from services.propagation.store.embedded_layout import u32
from services.propagation.store.numbers import to_set


class Reverse:
    """Reads of both families."""

    def __init__(self, folded: Family, arrived: Family) -> None:
        self.folded = folded
        self.arrived = arrived

    def dependents(self, input_number: int) -> dict[int, BitMap]:
        """By view: the set, never empty."""
        found: dict[int, BitMap] = {}
        self._small(input_number, found)
        self._hub(input_number, found)
        return {view: members for view, members in found.items() if members}

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


def small_key(block: int, view: bytes = b"") -> bytes:
    """The key of a folded block of 32 inputs."""
    return arrivals.SHARED + u32(block) + view


def _toggle(found: dict[int, BitMap], view: int, members: BitMap) -> None:
    held = found.get(view)
    if held is None:
        found[view] = members
    else:
        held ^= members
