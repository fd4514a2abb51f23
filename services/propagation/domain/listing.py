"""Roots and edges in pages: changes newest first, dependents in order of their numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from services.propagation.domain.names import check_resource
from services.propagation.domain.records import ROOT, RootRecord, State
from services.propagation.domain.sequence import encode
from services.propagation.domain.shard import Shard
from services.propagation.store.interface import Numbers
from services.propagation.store.numbers import to_numbers

_MOST_LOOKED_AT = 20_000
"""Records looked at for one page of a selective listing; the page is then short and the next one goes on."""

MOST_NAME_BYTES = 4 << 20
"""Of the names in one answer, so that it fits a message however long they are."""


@dataclass(frozen=True, slots=True)
class RootPage:
    """`before` is where the next page begins, 0 at the end."""

    records: list[RootRecord]
    before: int


def roots(shard: Shard, limit: int, before: int, states: frozenset[State], resource: str) -> RootPage:
    """Roots newest first, those before the sequence `before` (0: all), of these states (none: any) and resource."""
    end = encode(before) if before else None
    found: list[RootRecord] = []
    for looked_at, (key, value) in enumerate(
        shard.store.records(ROOT, end=end, reverse=True, limit=_MOST_LOOKED_AT), start=1
    ):
        record = RootRecord.unpack(key, value)
        if record.begun and (not states or record.state in states) and resource in ("", record.change.resource):
            found.append(record)
        if len(found) == limit or looked_at == _MOST_LOOKED_AT:
            return RootPage(found, record.sequence)
    return RootPage(found, 0)


def accepted_after(shard: Shard, sequence: int, limit: int) -> list[RootRecord]:
    """Accepted changes after a sequence, oldest first."""
    found = shard.store.records(ROOT, start=encode(sequence + 1), limit=limit)
    return [RootRecord.unpack(key, value) for key, value in found]


def input_number(shard: Shard, resource: str, aspect: str) -> int:
    """The input's number, -1 when nothing depends on it and it never changed. Raises ResourceInvalid."""
    number = int(shard.store.find_resources([check_resource(resource, "resource")])[0])
    return shard.store.find_input(number, aspect) if number >= 0 else -1


def dependents(shard: Shard, input_: int, view: int | None) -> list[tuple[int, BitMap]]:
    """(view, set) of what depends on the input, in one view or all, by view."""
    found = shard.store.dependents(input_) if input_ >= 0 else {}
    return sorted((number, items) for number, items in found.items() if view is None or number == view)


def pages(items: BitMap, start: int, size: int) -> Iterator[Numbers]:
    """The numbers from `start` on, ascending, `size` at a time."""
    at = items.rank(start - 1) if start else 0
    while at < len(items):
        page = items[at : at + size]
        at += len(page)
        yield to_numbers(page)


def names(shard: Shard, numbers: Numbers) -> tuple[bytes, Numbers]:
    """Names joined by NUL, and the numbers they are of: those at the head of `numbers` whose names fit an answer."""
    packed = shard.store.packed_names(np.ascontiguousarray(numbers)) if len(numbers) else b""
    if len(packed) > MOST_NAME_BYTES:
        packed = packed[: packed.rindex(b"\0", 0, MOST_NAME_BYTES)]
        numbers = numbers[: packed.count(b"\0") + 1]
    return packed, numbers
