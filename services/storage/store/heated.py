"""A store that counts which records are asked for; everything else is the store's inside."""

from collections.abc import Awaitable, Sequence
from typing import Any, cast

from libs.errors.errors import WellspringError
from services.storage.domain.heat import Heat
from services.storage.domain.model import Receipt
from services.storage.store.interface import Page, Read, Store, Write


class HeatedStore:
    """A decorator: tells ``heat`` of a sample of reads and writes."""

    def __init__(self, inside: Store, heat: Heat) -> None:
        self._inside = inside
        self._heat = heat
        self.feed_cursor = inside.feed_cursor  # each write asks for it: not by __getattr__

    def mutate(self, writes: Sequence[Write]) -> Awaitable[list[Receipt | WellspringError]]:
        """As ``Store.mutate``."""
        index = self._heat.pick(len(writes))
        if index >= 0:
            self._heat.add(writes[index].namespace.number, writes[index].command.record)
        return self._inside.mutate(writes)

    def read(self, read: Read) -> Awaitable[Page]:
        """As ``Store.read``."""
        if self._heat.pick(1) >= 0:
            self._heat.add(read.namespace.number, read.record)
        return self._inside.read(read)

    def read_many(self, reads: Sequence[Read], max_bytes: int) -> Awaitable[list[Page | WellspringError]]:
        """As ``Store.read_many``."""
        index = self._heat.pick(len(reads))
        if index >= 0:
            self._heat.add(reads[index].namespace.number, reads[index].record)
        return self._inside.read_many(reads, max_bytes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)


def heated(inside: Store, heat: Heat) -> Store:
    """``inside`` with its requests counted."""
    return cast(Store, HeatedStore(inside, heat))
