"""Three caches and their readers: a gateway, an edge in front of it, and one whose origin cannot refuse older pages.

* `Gateway` holds minimum versions: it neither serves nor keeps anything older, and asks the store strongly where the
  lagging copy is too old.
* `Edge` reads through the gateway. Like an HTTP cache it lets one fetch go for all who wait, and what a purge overtook
  is given to those who wait but not kept.
* `Plain` reads the lagging copy and keeps whatever arrives: it is purged a second time when the copy has caught up.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from services.propagation.simulation.seeded.site import Place, Site, Versioned, output_name

REBOUND_S = 0.5
"""So long after the lag of the copy that the plain cache reads, its second purge comes: no answer of the copy is under
way for longer."""


class Delay(Protocol):
    """Waits as long as a message takes, at most so long."""

    def __call__(self, most_s: float = ..., /) -> Awaitable[None]: ...


_MOST_PURGED = 4


class Cache(Protocol):
    """What readers, executors and the auditor ask of a cache."""

    name: str
    purged: deque[Place]
    """The last pages that were purged: readers like to look at them."""

    async def get(self, place: Place) -> Versioned | None:
        """As a reader gets it; None where there is no page, or none that is new enough."""

    def held(self, place: Place) -> Versioned | None:
        """What is kept."""

    def purge(self, place: Place, minimum: bytes) -> None:
        """Forgets what is older."""

    def restart(self) -> None:
        """Comes back empty."""


class Gateway:
    """Keeps minimums."""

    name = "gateway"

    def __init__(self, site: Site, delay: Delay) -> None:
        self._site = site
        self._delay = delay
        self._kept: dict[Place, Versioned] = {}
        self._minimum: dict[Place, bytes] = {}
        self._overtaken: dict[Place, int] = {}
        self._forgot_minimums = False
        self.purged: deque[Place] = deque(maxlen=_MOST_PURGED)

    async def get(self, place: Place) -> Versioned | None:
        """Kept, or from the lagging copy, or from the store itself."""
        kept = self._kept.get(place)
        if kept is not None:
            return kept
        for strong in (True,) if self._forgot_minimums else (False, True):
            turn = self._overtaken.get(place, 0)
            page = self._site.pages.get(place) if strong else self._site.replica.read(output_name(place))
            await self._delay()
            if page is None or page.version < self._minimum.get(place, b""):
                continue
            if turn == self._overtaken.get(place, 0):
                kept = self._kept.get(place)
                if kept is None or kept.version <= page.version:
                    self._kept[place] = page
            return page
        return None

    def held(self, place: Place) -> Versioned | None:
        """What is kept."""
        return self._kept.get(place)

    def minimum(self, place: Place) -> bytes:
        """The least version that is served."""
        return self._minimum.get(place, b"")

    def purge(self, place: Place, minimum: bytes) -> None:
        """Nothing older is served from now on; the minimum never falls."""
        self.purged.append(place)
        self._minimum[place] = max(minimum, self._minimum.get(place, b""))
        self._overtaken[place] = self._overtaken.get(place, 0) + 1
        kept = self._kept.get(place)
        if kept is not None and kept.version < minimum:
            del self._kept[place]

    def restart(self) -> None:
        """Minimums are gone too: until their time is over the store is asked strongly."""
        self._kept.clear()
        self._minimum.clear()
        self._forgot_minimums = True
        for place in self._overtaken:
            self._overtaken[place] += 1


class Outer:
    """A cache that lets one fetch of a page go at a time. `keeps_overtaken`: what was under way at a purge is kept."""

    def __init__(
        self,
        name: str,
        origin: Callable[[Place], Awaitable[Versioned | None]],
        *,
        keeps_overtaken: bool,
    ) -> None:
        self.name = name
        self._origin = origin
        self._keeps_overtaken = keeps_overtaken
        self._kept: dict[Place, Versioned] = {}
        self._fetching: dict[Place, asyncio.Future[Versioned | None]] = {}
        self._life = 0
        self.purged: deque[Place] = deque(maxlen=_MOST_PURGED)

    async def get(self, place: Place) -> Versioned | None:
        """Kept, or what the fetch under way brings."""
        kept = self._kept.get(place)
        if kept is not None:
            return kept
        fetch = self._fetching.get(place)
        if fetch is None:
            fetch = asyncio.ensure_future(self._fetch(place, self._life))
            self._fetching[place] = fetch
        return await asyncio.shield(fetch)

    async def _fetch(self, place: Place, life: int) -> Versioned | None:
        me = asyncio.current_task()
        try:
            page = await self._origin(place)
        finally:
            still = self._fetching.get(place) is me
            if still:
                del self._fetching[place]
        if page is not None and life == self._life and still:
            self._kept[place] = page
        return page

    def held(self, place: Place) -> Versioned | None:
        """What is kept."""
        return self._kept.get(place)

    def purge(self, place: Place, minimum: bytes) -> None:
        """Forgets what is older, and does not keep what is on its way unless it is of the kind that does."""
        self.purged.append(place)
        kept = self._kept.get(place)
        if kept is not None and kept.version < minimum:
            del self._kept[place]
        if not self._keeps_overtaken:
            self._fetching.pop(place, None)

    def restart(self) -> None:
        """Comes back empty."""
        self._life += 1
        self._kept.clear()
        self._fetching.clear()


def caches_of(site: Site, delay: Delay) -> list[Cache]:
    """Inner before outer."""
    gateway = Gateway(site, delay)

    async def through_gateway(place: Place) -> Versioned | None:
        page = await gateway.get(place)
        await delay()
        return page

    async def from_copy(place: Place) -> Versioned | None:
        page = site.replica.read(output_name(place))
        await delay(REBOUND_S)
        return page

    return [
        gateway,
        Outer("edge", through_gateway, keeps_overtaken=False),
        Outer("plain", from_copy, keeps_overtaken=True),
    ]
