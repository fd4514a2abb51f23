"""Who goes on when on the executor's one event loop: first turns at once, all else in slices of a few milliseconds.

What a page costs the loop is measured, so that a slice of cheap pages is large and one of dear ones is small. While
first turns are under way nothing else begins, and what has begun asks no renderer, stores nothing and purges nothing:
the loop, the store and the caches are theirs as soon as they have answered what was asked before. So that the store
has not been asked for much, slices are stored one after the other, and are small for a while after each first turn.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from libs.purge.client import Purge, PurgeFailed
from libs.render.types import Document
from services.propagation.executor.ports import Caches, Documents, Output, Stored

CALM_AT_MOST_S = 0.1
"""So long first turns have the executor to themselves, if they are not over before."""
LEAST_ITEMS = 16
"""Of a slice, whatever a page costs: fewer would leave a renderer that answers late with too little to do."""
UNMEASURED_ITEMS = 100
"""Of the slices before the first measurement: at 100 µs a page, which is usual, they cost 10 ms."""
QUIET_S = 10.0
QUIET_TIMES = 4.0
"""Without first turns for so long, slices may cost so much more: large ones are cheaper by the page for the store, too.
Who comes then waits for one step of a slice, not for all of it."""
STORE_APART_S = 0.02
"""A slice is stored when the one before is, or after so long: then it is not work that it waits for, but a way."""
SLICE_BYTES = 2 << 20
"""Of pages in a slice, at most: as much as one request to the store takes. More is no cheaper, and fills memory."""
_MEASURED_ITEMS = 200
"""Pages over which a cost is measured; the times of fewer are mostly of what goes on besides."""
_NEWS = 0.3
"""The weight of the newest measurement."""


class Pace:
    """`most_items` are in a slice, and fewer if they cost the loop more than `slice_s` (0: not measured), or four times
    that while first turns are rare, or if their pages have more than SLICE_BYTES together.

    `hold` is called with True when first turns have come and with False when they are over. `cpu_s` tells the CPU
    seconds that the loop's thread has used, and is asked in that thread.
    """

    def __init__(
        self,
        most_items: int,
        slice_s: float = 0.0,
        hold: Callable[[bool], None] | None = None,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._most_items = most_items
        self._slice_s = slice_s
        self._hold = hold
        self._cpu_s = cpu_s
        self._item_s = 0.0
        self._since_s = 0.0
        self._items = 0
        self._item_bytes = 0.0
        self._bytes = 0
        self.running = 0
        """Slices under way, those of first turns too."""
        self._quiet_from_s = 0.0
        self._hush_from_s = 0.0
        self._storing = asyncio.Lock()
        self._calm = asyncio.Event()
        self._calm.set()
        self._alarm: asyncio.TimerHandle | None = None
        self.first = 0
        """Batches of first turns under way."""

    def slice_items(self) -> int:
        """How many pages a slice has now."""
        if not self._slice_s:
            return self._most_items
        quiet = asyncio.get_running_loop().time() >= self._quiet_from_s
        slice_s = self._slice_s * QUIET_TIMES if quiet else self._slice_s
        affordable = int(slice_s / self._item_s) if self._item_s else UNMEASURED_ITEMS
        if self._item_bytes:
            affordable = min(affordable, int(SLICE_BYTES / self._item_bytes))
        return min(self._most_items, max(LEAST_ITEMS, affordable))

    def begin(self) -> None:
        """A slice begins. Between slices nothing is measured: an idle loop has costs of its own."""
        if not self.running:
            self._since_s, self._items, self._bytes = self._cpu_s(), 0, 0
        self.running += 1

    def end(self, items: int, size_bytes: int = 0) -> None:
        """A slice of so many pages has ended, which had so many bytes together."""
        self.running -= 1
        self._items += items
        self._bytes += size_bytes
        if self._items < _MEASURED_ITEMS:
            return
        now_s = self._cpu_s()
        found_s = max(1e-9, (now_s - self._since_s) / self._items)
        news = _NEWS if self._item_s else 1.0
        self._item_s += news * (found_s - self._item_s)
        self._item_bytes += news * (self._bytes / self._items - self._item_bytes)
        self._since_s, self._items, self._bytes = now_s, 0, 0

    def begin_first(self) -> None:
        """A batch of first turns is begun. If it takes long, it waits for a target, and need not be waited for."""
        self.first += 1
        self.hush()

    def hush(self) -> None:
        """First turns have come: from here on all else waits until they are done, `CALM_AT_MOST_S` at most.

        Then it has as long a time before it waits again: a stream of first turns without end takes half of the time.
        """
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._quiet_from_s = now_s + QUIET_S
        if not self._calm.is_set() or now_s < self._hush_from_s:
            return
        self._calm.clear()
        self._alarm = loop.call_later(CALM_AT_MOST_S, self._waited_enough)
        if self._hold is not None:
            self._hold(True)

    def end_first(self) -> None:
        """It is done."""
        self.first -= 1
        if not self.first:
            self._go_on()

    def _waited_enough(self) -> None:
        self._hush_from_s = asyncio.get_running_loop().time() + CALM_AT_MOST_S
        self._go_on()

    def _go_on(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not self._calm.is_set():
            self._calm.set()
            if self._hold is not None:
                self._hold(False)

    async def turn(self) -> None:
        """Waits while first turns are under way: before each step of all other work."""
        await self._calm.wait()

    @asynccontextmanager
    async def storing(self) -> AsyncIterator[None]:
        """A slice of other work is stored within, in its turn: one after the other, since what the store was asked for
        before a first turn came is what that one waits for."""
        await self._storing.acquire()
        free, alarm = _Once(self._storing.release), None
        try:
            await self.turn()
            alarm = asyncio.get_running_loop().call_later(STORE_APART_S, free)
            yield
        finally:
            if alarm is not None:
                alarm.cancel()
            free()


class _Once:
    """Calls it the first time only."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class PacedDocuments:
    """The store for all but first turns: they are stored first."""

    def __init__(self, documents: Documents, pace: Pace) -> None:
        self._documents = documents
        self._pace = pace

    async def fetch(self, namespace: str, records: Sequence[bytes], *, strong: bool = False) -> list[Document | None]:
        """See ports.Documents. Reads wait for nobody: they are a part of rendering."""
        return await self._documents.fetch(namespace, records, strong=strong)

    async def stored(self, namespace: str, item_key: bytes, records: Sequence[bytes]) -> list[Stored | None]:
        """See ports.Documents."""
        return await self._documents.stored(namespace, item_key, records)

    async def put(self, namespace: str, item_key: bytes, outputs: Sequence[Output], version: bytes) -> list[str | None]:
        """See ports.Documents."""
        async with self._pace.storing():
            return await self._documents.put(namespace, item_key, outputs, version)


class PacedCaches:
    """The caches for all but first turns: they are purged first."""

    def __init__(self, caches: Caches, pace: Pace) -> None:
        self._caches = caches
        self._pace = pace

    async def purge(self, purges: Sequence[Purge]) -> dict[int, PurgeFailed]:
        """See ports.Caches."""
        await self._pace.turn()
        return await self._caches.purge(purges)
