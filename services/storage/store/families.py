"""The families of the one-machine backend, by name, and the operations that wait to be put into a batch."""

from typing import Any

from services.storage.store import layout
from services.storage.store.kv import Family, Kv

Operation = tuple[Family, bytes, bytes | None]
"""A put, or a delete when the value is None."""


class Families:
    """One attribute for each family of ``layout.FAMILIES``."""

    __slots__ = layout.FAMILIES

    records: Family
    items: Family
    tombs: Family
    tokens: Family
    feed: Family
    due: Family
    history: Family
    samples: Family
    chunks: Family
    meta: Family

    def __init__(self, kv: Kv) -> None:
        for name in layout.FAMILIES:
            setattr(self, name, kv.family(name))


def fill(batch: Any, operations: list[Operation]) -> None:
    """Adds the operations to a batch, in order; puts into one family that follow one another go together."""
    puts: list[tuple[bytes, bytes]] = []
    to: Family | None = None
    for family, key, value in operations:
        if puts and (family is not to or value is None):
            batch.put_many(to, puts)
            puts = []
        if value is None:
            batch.delete(family, key)
        else:
            to = family
            puts.append((key, value))
    if puts:
        batch.put_many(to, puts)
