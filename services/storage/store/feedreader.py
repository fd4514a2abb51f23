"""The change feed as read: from a cursor on, as far as it is durable, and the wait for what comes."""

import asyncio
import struct
from typing import Final

from services.storage.domain.errors import ResumeTokenExpired
from services.storage.domain.feed import ChangeEvent
from services.storage.domain.model import Receipt
from services.storage.domain.namespace import Namespace
from services.storage.store import layout, runs
from services.storage.store.families import Families
from services.storage.store.interface import FeedPage
from services.storage.store.ledger import Ledger
from services.storage.store.settling import Settling

_CURSOR: Final = struct.Struct(">IQ")


class FeedReader:
    """Reads the feeds. A cursor is the namespace's number and the sequence of the last change seen."""

    def __init__(self, families: Families, ledger: Ledger, settling: Settling) -> None:
        self._families = families
        self._ledger = ledger
        self._settling = settling

    async def start(self, namespace: Namespace, *, from_beginning: bool) -> bytes:
        """As ``Store.feed_start``."""
        number = namespace.number
        sequence = self._ledger.account(number).sequence
        if from_beginning:
            first = self._families.feed.first(layout.prefix(number))
            sequence = sequence if first is None else runs.first_sequence(*first) - 1
        await self._settling.settle()
        return _CURSOR.pack(number, sequence)

    async def read(self, namespace: Namespace, cursor: bytes, max_events: int) -> FeedPage:
        """As ``Store.feed``."""
        number = namespace.number
        seen = self._sequence(namespace, cursor)
        if seen < self._trimmed(number):
            raise ResumeTokenExpired(
                f"the feed of {namespace.name!r} no longer has the changes that follow this token; scan the namespace,"
                " then watch anew",
                metadata={"namespace": namespace.name},
            )
        found, last = self._after(number, seen, max_events)
        await self._settling.settle()
        return FeedPage(found, _CURSOR.pack(number, last), len(found) == max_events)

    async def grown(self, namespace: Namespace, cursor: bytes, timeout_s: float) -> bool:
        """As ``Store.feed_grown``."""
        account = self._ledger.account(namespace.number)
        if account.sequence > self._sequence(namespace, cursor):
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        account.waiting.add(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            account.waiting.discard(future)
        return True

    def reaches(self, namespace: Namespace, cursor: bytes) -> bool:
        """As ``Store.feed_reaches``."""
        if len(cursor) != _CURSOR.size:
            return False
        number, sequence = _CURSOR.unpack(cursor)
        return bool(number == namespace.number and sequence <= self._ledger.account(number).sequence)

    def cursor(self, namespace: Namespace, receipt: Receipt) -> bytes:
        """As ``Store.feed_cursor``."""
        return _CURSOR.pack(namespace.number, receipt.sequence)

    def _after(self, number: int, seen: int, limit: int) -> tuple[list[ChangeEvent], int]:
        """The first changes behind ``seen``, and the sequence of the last of them."""
        found: list[ChangeEvent] = []
        for key, row in self._families.feed.scan(layout.prefix(number), start=layout.feed_key(number, seen + 1)):
            first = runs.first_sequence(key, row)
            held = runs.changes(row)
            begin = max(0, seen + 1 - first)
            end = begin + limit - len(found)
            found += held[begin:end]
            seen = min(layout.feed_sequence(key), first + end - 1)
            if len(found) == limit:
                break
        return found, seen

    def _trimmed(self, number: int) -> int:
        """The sequence of the last change that is no longer kept; 0 when all are."""
        first = self._families.feed.first(layout.prefix(number))
        return 0 if first is None else runs.first_sequence(*first) - 1

    @staticmethod
    def _sequence(namespace: Namespace, cursor: bytes) -> int:
        """Raises ResumeTokenExpired for the cursor of a namespace of the same name that is gone."""
        if len(cursor) == _CURSOR.size:
            number, sequence = _CURSOR.unpack(cursor)
            if number == namespace.number:
                return int(sequence)
        raise ResumeTokenExpired(
            f"the token belongs to a namespace {namespace.name!r} that was purged; scan the new one, then watch anew",
            metadata={"namespace": namespace.name},
        )
