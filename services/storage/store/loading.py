"""Items written with the versions that they bring: what a restore and an import put into a namespace."""

from collections.abc import Callable, Sequence
from typing import Any

from libs.errors.errors import WellspringError
from services.storage.domain.copying import Copied, merge
from services.storage.domain.errors import NamespaceNotFound
from services.storage.domain.namespace import Namespace
from services.storage.store import layout
from services.storage.store.catalog import Catalog
from services.storage.store.families import Families, Operation, fill
from services.storage.store.kv import Kv
from services.storage.store.ledger import Ledger, usage_key
from services.storage.store.settling import Settling
from services.storage.store.writer import Writer


class Loader:
    """Writes into a store what was copied out of one."""

    def __init__(
        self,
        kv: Kv,
        families: Families,
        ledger: Ledger,
        catalog: Catalog,
        settling: Settling,
        writer: Writer,
        clock_us: Callable[[], int],
        grace_us: int,
    ) -> None:
        self._kv = kv
        self._families = families
        self._ledger = ledger
        self._catalog = catalog
        self._settling = settling
        self._writer = writer
        self._clock_us = clock_us
        self._grace_us = grace_us

    async def load(self, namespace: Namespace, items: Sequence[Copied], *, free: bool) -> list[bool]:
        """As ``Store.load``: one batch."""
        if namespace.number not in self._catalog.by_number:
            raise NamespaceNotFound.named(namespace.name)  # it was purged meanwhile
        by_record: dict[bytes, list[Copied]] = {}
        for item in items:
            by_record.setdefault(item.record, []).append(item)
        batch: Any = self._kv.batch()
        taken: set[tuple[bytes, bytes]] = set()
        refused: WellspringError | None = None
        for record, parts in by_record.items():
            try:
                keys = self._load(batch, namespace, record, parts, free=free)
            except WellspringError as error:
                refused = error
                break
            taken.update((record, key) for key in keys)
        await self._submit(batch, namespace, list(by_record))
        if refused is not None:
            raise refused
        return [(item.record, item.put.key) in taken for item in items]

    def _load(
        self, batch: Any, namespace: Namespace, record: bytes, items: list[Copied], *, free: bool
    ) -> Sequence[bytes]:
        """Adds to ``batch`` what the items of one record write; the keys of those that do."""
        now_us = self._clock_us()
        stored = self._writer.load(namespace.number, record)
        stored.preload([item.put.key for item in items])
        decision = merge(namespace.settings.mode, stored, items, now_us, now_us + self._grace_us)
        if not (decision.puts or decision.removed):
            return ()
        operations: list[Operation] = []
        self._writer.apply(operations, namespace, stored, decision, now_us=now_us, free=free)
        fill(batch, operations)
        return [*(put.key for put, _, _ in decision.puts), *decision.removed]

    async def _submit(self, batch: Any, namespace: Namespace, records: Sequence[bytes]) -> None:
        account = self._ledger.account(namespace.number)
        places = [layout.prefix(namespace.number) + record for record in records]
        if not len(batch):
            await self._settling.settle(places)
            return
        batch.put(self._families.meta, usage_key(namespace.number), account.usage_row())
        try:
            durable = self._kv.submit(batch)
        except WellspringError:
            self._ledger.reload(account)
            raise
        self._settling.mark(places)
        account.wake()
        await durable
        await self._settling.settle(places)
