"""Who waits for what: leases for work, readers for progress and for a page to be fresh."""

import asyncio

from pyroaring import BitMap


class Signal:
    """Wakes all who wait, each time it is fired."""

    def __init__(self) -> None:
        # In the order in which they came: who waits longest is served first, and a seeded run is the same each time.
        self._waiting: dict[asyncio.Future[None], None] = {}

    def fire(self) -> None:
        """Wakes all who wait now."""
        if self._waiting:
            woken, self._waiting = self._waiting, {}
            for future in woken:
                if not future.done():
                    future.set_result(None)

    async def wait(self, seconds: float) -> bool:
        """Whether it was fired within so many seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = None
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiting.pop(future, None)
        return True


class ItemSignals:
    """Wakes those who wait for one item of a view, when it may have changed."""

    def __init__(self) -> None:
        self._signals: dict[tuple[int, int], Signal] = {}
        self._awaited: dict[int, BitMap] = {}

    def fire(self, view: int, items: BitMap) -> None:
        """Wakes those who wait for one of the items."""
        awaited = self._awaited.get(view)
        if awaited:
            for resource in awaited & items:
                self._signals[view, resource].fire()

    def fire_all(self) -> None:
        """Wakes everybody: something changed that may touch any item."""
        for signal in list(self._signals.values()):
            signal.fire()

    async def wait(self, view: int, resource: int, seconds: float) -> bool:
        """Whether the item was fired within so many seconds."""
        signal = self._signals.setdefault((view, resource), Signal())
        self._awaited.setdefault(view, BitMap()).add(resource)
        try:
            return await signal.wait(seconds)
        finally:
            if not signal._waiting:  # the last one out: same module, same idea
                self._signals.pop((view, resource), None)
                self._awaited[view].discard(resource)


class Signals:
    """`work`: something may be leasable. `progress`: a root moved. `accepted`: a change was. `items`: renders.

    `news`: a change was accepted or an output changed, so that streams of both have something to tell.
    """

    def __init__(self) -> None:
        self.work = Signal()
        self.progress = Signal()
        self.accepted = Signal()
        self.news = Signal()
        self.items = ItemSignals()
