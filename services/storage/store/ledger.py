"""What the one-machine backend keeps in memory of each namespace: its place in the feed, its newest version, its usage.

All of it can be read back: the feed's last change (which is never trimmed) carries sequence and version, and a usage
row is written in the same batch as what it counts. After a batch that could not be applied the entry is read anew.
"""

import asyncio
import struct
from typing import Final

from services.storage.domain.model import NO_VERSION
from services.storage.store import events, layout
from services.storage.store.families import Families

_USAGE: Final = struct.Struct(">qqqQ16s")


class Account:
    """One namespace. ``sequence`` and ``newest`` are those of its last change; ``waiting`` watch for the next.

    No token that is remembered has a later time than ``newest_token_us``: one that has was never seen, and need not be
    looked up.
    """

    __slots__ = ("items", "newest", "newest_token_us", "number", "records", "sequence", "size", "waiting")

    def __init__(self, number: int) -> None:
        self.number = number
        self.sequence = 0
        self.newest = NO_VERSION
        self.newest_token_us = 0
        self.records = self.items = self.size = 0
        self.waiting: set[asyncio.Future[None]] = set()

    def usage_row(self) -> bytes:
        """The usage, to be written with what it counts. The newest version of a CAS namespace is a part of it, for a
        mutation that changes nothing takes one too."""
        return _USAGE.pack(self.records, self.items, self.size, self.sequence, self.newest.rjust(16, b"\0"))

    def wake(self) -> None:
        """Tells those that wait for a change."""
        while self.waiting:
            future = self.waiting.pop()
            if not future.done():
                future.set_result(None)


class Ledger:
    """The accounts by namespace number."""

    def __init__(self, families: Families) -> None:
        self._families = families
        self._accounts: dict[int, Account] = {}

    def account(self, number: int) -> Account:
        """The account of a namespace, read when it is not in memory."""
        found = self._accounts.get(number)
        if found is None:
            found = self._accounts[number] = Account(number)
            self.reload(found)
        return found

    def reload(self, account: Account) -> None:
        """Reads the account anew."""
        row = self._families.meta.get(usage_key(account.number))
        account.sequence, account.newest = 0, NO_VERSION
        account.records = account.items = account.size = 0
        if row is not None:
            account.records, account.items, account.size, account.sequence, newest = _USAGE.unpack(row)
            account.newest = newest if any(newest) else NO_VERSION
        token = self._families.tokens.last(layout.prefix(account.number))
        account.newest_token_us = 0 if token is None else layout.token_time(token[0])
        last = self._families.feed.last(layout.prefix(account.number))
        if last is not None:
            account.sequence = max(account.sequence, layout.feed_sequence(last[0]))
            account.newest = max(account.newest, events.event_version(last[1]))

    def forget(self, number: int) -> None:
        """Drops the account of a namespace that is gone; its watchers look again and find that."""
        found = self._accounts.pop(number, None)
        if found is not None:
            found.wake()


def usage_key(number: int) -> bytes:
    """Where the usage row of a namespace lies."""
    return layout.META_USAGE + layout.prefix(number)
