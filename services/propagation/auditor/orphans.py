"""The sweep of one namespace of pages for those that the engine does not know.

An orphan is never deleted by the auditor: an engine whose data was lost, or a site whose pages were imported, would
lose every page. It is given to the engine, as a page to render: a renderer that has no such page says so, and the
executor deletes it in the order of versions; one that has makes it right, and the engine knows it from then on.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.propagation.auditor.addressing import ViewAddresses
from services.propagation.auditor.judging import Finding
from services.propagation.auditor.pace import Pace
from services.propagation.auditor.ports import Engine, Pages, ScannedItem, ScanPage
from services.propagation.auditor.repairs import Repairs
from services.propagation.auditor.turn import Tally

ASKED_AT_ONCE = 8


@dataclass(slots=True)
class OrphanSweep:
    """What a sweep for orphans works with."""

    engine: Engine
    pages: Pages
    repairs: Repairs
    pace: Pace
    _asking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ASKED_AT_ONCE))

    async def part(self, namespace: str, views: Sequence[ViewAddresses], token: str) -> tuple[Tally, str]:
        """Sweeps one answer of a scan from `token` on, for the views that store there; as OutputSweep.part."""
        tally = Tally()
        scanned = await self._next(namespace, sorted({view.item_key for view in views}), token)
        if scanned is None:
            return tally, ""
        await self.pace.take(len(scanned.items))
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._unknown(item, views)) for item in scanned.items]
        orphans: dict[str, list[str]] = {}
        for item, task in zip(scanned.items, asked, strict=True):
            tally.counts["items_scanned"] += 1
            self._take(namespace, item, task.result(), orphans, tally)
        for view, names in sorted(orphans.items()):
            sent = await self.repairs.rerender(view, names, "audit: orphan")
            tally.counts["repaired"] += sent
            tally.counts["not_repaired"] += len(names) - sent
        # A scan goes on to its end: only then is its token the same again.
        return tally, scanned.token if scanned.token != token else ""

    async def _next(self, namespace: str, item_keys: Sequence[bytes], token: str) -> ScanPage | None:
        scan = self.pages.scan(namespace, item_keys, token)
        async for page in scan:
            return page
        return None

    async def _unknown(self, item: ScannedItem, views: Sequence[ViewAddresses]) -> list[tuple[str, str]] | None:
        """The outputs that the item could be, when the engine knows none of them; None when it knows one."""
        possible = [
            (view.name, resource)
            for view in views
            if view.item_key == item.item_key
            for resource in view.resources_of(item.record)
        ]
        for view, resource in possible:
            async with self._asking:
                if await self.engine.knows(view, resource):
                    return None
        return possible

    @staticmethod
    def _take(
        namespace: str,
        item: ScannedItem,
        possible: list[tuple[str, str]] | None,
        orphans: dict[str, list[str]],
        tally: Tally,
    ) -> None:
        record = item.record.decode(errors="backslashreplace")
        if possible is None:
            return
        if not possible:
            tally.counts["strangers"] += 1
            tally.example("stranger", namespace, record, "no view's pages lie here")
        elif len(possible) == 1:
            ((view, resource),) = possible
            tally.found(Finding.ORPHAN, view, resource)
            orphans.setdefault(view, []).append(resource)
        else:
            tally.found(Finding.ORPHAN, namespace, record, "of several views or prefixes: not repaired")
            tally.counts["not_repaired"] += 1
