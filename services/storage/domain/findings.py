"""What makes a record one to look at, and what to do about it."""

import enum
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from services.storage.domain.limits import KIB, MIB


class Kind(enum.Enum):
    """Why a record was found; the numbers are the contract's."""

    WIDE = 1
    HOT = 2
    TOMBSTONES = 3
    BIG_VALUE = 4


class Sizes(NamedTuple):
    """What a record holds."""

    record: bytes
    items: int
    size_bytes: int
    tombstones: int
    largest: int


class Finding(NamedTuple):
    """One reason to look at a record."""

    kind: Kind
    sizes: Sizes
    requests_per_s: float
    advice: str


WIDE_ITEMS: Final = 10_000
WIDE_BYTES: Final = 16 * MIB
"""Of a record of more than ``MANY_ITEMS``: a page of it takes long to reach, a copy of it long to move."""
MANY_ITEMS: Final = 1000
DEAD: Final = 1000
DEAD_BESIDE: Final = 100
"""Tombstones: always, or from so many on when they are more than the items that readers go over them for."""
BIG: Final = 256 * KIB
HOT_PER_S: Final = 20.0
HOT_SHARE: Final = 0.1
"""Of the namespace's requests, from one a second on."""


def find(sizes: Iterable[Sizes]) -> list[Finding]:
    """What is to be said of records by their sizes."""
    found: list[Finding] = []
    for one in sizes:
        if is_wide(one):
            found.append(Finding(Kind.WIDE, one, 0.0, _wide(one)))
        if one.tombstones >= DEAD or (one.tombstones >= DEAD_BESIDE and one.tombstones > one.items):
            found.append(Finding(Kind.TOMBSTONES, one, 0.0, _dead(one)))
        if one.largest >= BIG:
            found.append(Finding(Kind.BIG_VALUE, one, 0.0, _big(one)))
    return found


def is_wide(one: Sizes) -> bool:
    """Whether a record is wide."""
    return one.items >= WIDE_ITEMS or (one.items >= MANY_ITEMS and one.size_bytes >= WIDE_BYTES)


def is_hot(per_s: float, all_per_s: float) -> bool:
    """Whether a record with so many of the namespace's requests a second is hot."""
    return per_s >= HOT_PER_S or (per_s >= 1 and per_s >= HOT_SHARE * all_per_s)


def hot(one: Sizes, per_s: float, all_per_s: float) -> Finding:
    """What is to be said of a hot record."""
    share = f", {100 * min(1.0, per_s / all_per_s):.0f} % of the namespace's" if all_per_s else ""
    advice = (
        f"about {per_s:.0f} requests a second{share}: cache what is read, gather what is written, or spread it over"
        " several records"
    )
    return Finding(Kind.HOT, one, per_s, advice)


def worst(found: Sequence[Finding], limit: int) -> list[Finding]:
    """At most ``limit`` of each kind, the worst first."""
    kept: list[Finding] = []
    for kind in Kind:
        mine = sorted((one for one in found if one.kind is kind), key=_severity, reverse=True)
        kept += mine[:limit]
    return kept


def _severity(one: Finding) -> tuple[float, bytes]:
    sizes = one.sizes
    by_kind = {
        Kind.WIDE: max(sizes.items / WIDE_ITEMS, sizes.size_bytes / WIDE_BYTES),
        Kind.HOT: one.requests_per_s,
        Kind.TOMBSTONES: float(sizes.tombstones),
        Kind.BIG_VALUE: float(sizes.largest),
    }
    return by_kind[one.kind], sizes.record


def _wide(one: Sizes) -> str:
    return (
        f"{one.items} items, {one.size_bytes / MIB:.1f} MiB: RebucketRecords spreads it where the backend has buckets;"
        " read it by ranges; if it only grows, begin a new record for each day or each part"
    )


def _dead(one: Sizes) -> str:
    return (
        f"{one.tombstones} deletes are remembered beside {one.items} items: they go when tombstone_grace is over;"
        " delete whole ranges, or let items expire, instead of deleting them one by one"
    )


def _big(one: Sizes) -> str:
    return (
        f"a value of about {one.largest / MIB:.1f} MiB: Upload and Download it in pieces, and keep it out of records"
        " that are read whole"
    )
