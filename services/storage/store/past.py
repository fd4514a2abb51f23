"""What became of a token, which versions an item had, and taking a delete back."""

from collections.abc import Callable
from itertools import islice

from services.storage.domain.decide import Decision, visible
from services.storage.domain.errors import ItemNotFound, VersionNotFound
from services.storage.domain.model import Command, Item, Mode, Outcome, Put, Receipt, Selection, WriteToken
from services.storage.domain.namespace import Namespace
from services.storage.domain.versions import assigned_version, token_version
from services.storage.store import layout, rows, runs
from services.storage.store.families import Families, Operation
from services.storage.store.history import History, Past, version_in
from services.storage.store.interface import KeptVersion, Remembered
from services.storage.store.ledger import Ledger
from services.storage.store.record import StoredRecord
from services.storage.store.settling import Settling
from services.storage.store.writer import Writer


class PastReader:
    """Reads of what was, and the one write that brings it back."""

    def __init__(
        self,
        families: Families,
        history: History,
        ledger: Ledger,
        settling: Settling,
        writer: Writer,
        clock_us: Callable[[], int],
    ) -> None:
        self._families = families
        self._history = history
        self._ledger = ledger
        self._settling = settling
        self._writer = writer
        self._clock_us = clock_us

    async def outcome(self, namespace: Namespace, record: bytes, token: WriteToken) -> Remembered | None:
        """As ``Store.outcome``. Judged by the items that the mutation's change names, at most 100."""
        remembered = self._outcome(namespace, record, token)
        await self._settling.settle()
        return remembered

    def _outcome(self, namespace: Namespace, record: bytes, token: WriteToken) -> Remembered | None:
        number = namespace.number
        found = self._writer.token(number, record, token)
        if found is None:
            return None
        if found.outcome is Outcome.SUPERSEDED:
            return Remembered(found.version, False)
        stored = self._writer.load(number, record)
        if not found.sequence:
            return Remembered(found.version, not stored.alive(self._clock_us()) or stored.version <= found.version)
        change = runs.change(self._families.feed, number, found.sequence)
        if change is None:
            return Remembered(found.version, stored.version <= found.version)
        current = True
        for item in change.items:
            row = stored.item_row(item.key)
            known = None if row is None else rows.known(row)
            there = visible(known, self._clock_us())
            current &= not there if item.deleted else known is not None and there and known.version == found.version
        return Remembered(found.version, current)

    async def versions(
        self, namespace: Namespace, record: bytes, key: bytes, after: bytes | None, limit: int, *, omit_values: bool
    ) -> tuple[list[KeptVersion], bytes | None]:
        """As ``Store.versions``. A position is the version of the last one answered and whether it was a delete."""
        found, resume = self._versions(namespace, record, key, after, limit, omit_values)
        await self._settling.settle()
        return found, resume

    def _versions(
        self, namespace: Namespace, record: bytes, key: bytes, after: bytes | None, limit: int, omit: bool
    ) -> tuple[list[KeptVersion], bytes | None]:
        stored = self._writer.load(namespace.number, record)
        now_us = self._clock_us()
        kept: list[KeptVersion] = []
        start = b""
        if after is None:
            row = stored.item_row(key)
            if row is not None and visible(rows.known(row), now_us):
                kept.append(KeptVersion(rows.decode(key, row, omit_value=omit), False))
        else:
            start = layout.inverted(after[:16]) + (b"" if after[16:] else b"\0")
        for past in islice(self._history.of_item(stored.prefix, key, start), limit + 1):
            version = version_in(past.key)
            if past.deleted_by and after != version + b"d":
                kept.append(KeptVersion(_deleted(key, past), True))
            kept.append(KeptVersion(rows.decode(key, past.row, omit_value=omit), False))
            after = None
        if len(kept) <= limit:
            return kept, None
        last = kept[limit - 1]
        return kept[:limit], _position(last, kept[limit])

    async def undelete(self, namespace: Namespace, command: Command, selection: Selection, version: bytes) -> Receipt:
        """As ``Store.undelete``."""
        now_us = self._clock_us()
        restored = 0

        def plan(record: StoredRecord, operations: list[Operation]) -> Decision:
            nonlocal restored
            pasts = self._deleted_by(namespace, record, selection, version, now_us)
            if namespace.settings.mode is Mode.CAS:
                newest = self._ledger.account(namespace.number).newest
                decision = Decision(assigned_version(now_us, newest, command.token.nonce))
            else:
                decision = Decision(token_version(command.token))
            for key, past in pasts:
                item = rows.decode(key, past.row)
                lapsed = item.expire_us and item.expire_us <= now_us
                if lapsed or visible(record.item(key), now_us):
                    continue
                value = rows.raw_value(past.row)
                put = Put(key, value, item.content_type, item.attributes, item.expire_us, None, item.chunked)
                decision.puts.append((put, decision.version, False))
                operations.append((self._families.history, past.key, None))
            if not decision.puts:
                raise ItemNotFound("nothing is left to restore: what was deleted has expired or is there again")
            restored = decision.deleted_items = len(decision.puts)
            return decision

        return await self._writer.write_planned(namespace, command, plan)

    def _deleted_by(
        self, namespace: Namespace, record: StoredRecord, selection: Selection, version: bytes, now_us: int
    ) -> list[tuple[bytes, Past]]:
        """What one delete removed of the selection; the record's newest delete when ``version`` is empty."""
        horizon_us = now_us - namespace.settings.retention.undelete_window_us
        pasts = [
            (key, past)
            for key, past in self._history.of_record(record.prefix)
            if past.deleted_by and past.retired_us > horizon_us
        ]
        wanted = version or max((past.deleted_by for _, past in pasts), default=b"")
        found = [(key, past) for key, past in pasts if past.deleted_by == wanted]
        if not found:
            raise VersionNotFound(
                "no delete of this version is remembered for the record; the namespace's undelete_window says how long"
                f" one is ({namespace.settings.retention.undelete_window_us // 1_000_000} s)"
            )
        keys = selection.keys
        chosen = [
            (key, past)
            for key, past in found
            if (key in keys if keys is not None else selection.start <= key)
            and (keys is not None or selection.end is None or key < selection.end)
        ]
        if not chosen:
            raise ItemNotFound("that delete removed nothing of the selection")
        return chosen


def _deleted(key: bytes, past: Past) -> Item:
    """The delete itself, as an item without a value."""
    return Item(key, b"", past.deleted_by, past.retired_us, 0, "", (), 0, False)


def _position(last: KeptVersion, following: KeptVersion) -> bytes:
    """Behind a delete comes the version it ended: go on at that one; behind a version, go on below it."""
    return following.item.version + b"d" if last.deleted else last.item.version
