"""Those around the engine: authors who edit and delete, readers, an auditor.

An author writes a document first and publishes the change then, again and again until it is acknowledged. What an
author was told is what must not be lost.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

from libs.errors.errors import WellspringError as EngineError
from services.propagation.domain.change import Cause, Change
from services.propagation.simulation.seeded.caches import Cache
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.host import Host
from services.propagation.simulation.seeded.invariants import Invariants
from services.propagation.simulation.seeded.places import CARDS, FEEDS, PAGES, TEMPLATES, recipe_for
from services.propagation.simulation.seeded.site import OSCILLATES, Place, Site
from services.propagation.simulation.seeded.trace import Trace
from wellspring_client.errors import WellspringError

ALL_ASPECTS = ("content", "existence", "title")
_AGAIN_S = 0.5
_LATE_S = 20.0
AUDIT_EVERY_S = 10.0


class Author:
    """Edits documents and tells the engine."""

    def __init__(
        self, site: Site, host: Host, invariants: Invariants, rng: Random, faults: Callable[[], Faults], trace: Trace
    ) -> None:
        self._site = site
        self._host = host
        self._invariants = invariants
        self._rng = rng
        self._faults = faults
        self._trace = trace
        self.busy = 0

    async def at_work(self, what: Coroutine[Any, Any, None]) -> None:
        """Counts who is not done yet."""
        self.busy += 1
        try:
            await what
        finally:
            self.busy -= 1

    async def create_all(self) -> None:
        """The first version of every document, some told and some declared as well."""
        for name in (*TEMPLATES, *PAGES, *FEEDS, *CARDS):
            await self._create(name, 1)

    async def _create(self, name: str, shown: int) -> None:
        document = self._site.document(name)
        document["shown"] = {"content": shown, "title": shown}
        document["recipe"] = recipe_for(name, self._rng)
        if name.startswith(OSCILLATES):
            document["shown"]["content"] = 0
        await self._tell(name, ALL_ASPECTS, self._site.write(name, document))

    async def edit(self) -> None:
        """One edit of something; the change may be told late, after the next one."""
        await self.at_work(self._edit())

    async def _edit(self) -> None:
        rng = self._rng
        name = rng.choice([*TEMPLATES, *TEMPLATES, *PAGES, *FEEDS, *CARDS])
        if name not in self._site.documents:
            return
        if self._site.deleted(name):
            await self._create(name, self._site.next_version(name))
            return
        if name in (*PAGES, *FEEDS) and rng.random() < self._faults().deleted:
            await self._tell(name, ALL_ASPECTS, self._site.write(name, None))
            return
        document = self._site.document(name)
        aspects = rng.choice([("content",), ("content",), ("title",), ("content", "title")])
        for aspect in aspects:
            if rng.random() < 0.8 and not name.startswith(OSCILLATES):
                document["shown"][aspect] += 1
        # A circle of cards keeps the greatest number it ever read: what it is made of stays; so there is one truth.
        if rng.random() < 0.3 and not name.startswith("card/"):
            document["recipe"] = recipe_for(name, rng)
        if document["recipe"] and not name.startswith("card/"):
            document["poison"] = rng.random() < self._faults().poisoned
        version = self._site.write(name, document)
        if rng.random() < 0.2:
            await asyncio.sleep(rng.uniform(0, _LATE_S))
        await self._tell(name, aspects, version)

    async def heal(self) -> None:
        """A new version of each document that could not be rendered."""
        for name in (*PAGES, *FEEDS):
            document = self._site.document(name)
            if document["poison"]:
                document["poison"] = False
                document["shown"]["content"] += 1
                await self._tell(name, ("content",), self._site.write(name, document))

    async def edit_again(self, name: str) -> None:
        """A further version of what somebody cancelled or discarded."""
        document = self._site.document(name)
        document["shown"] = {aspect: shown + 1 for aspect, shown in document["shown"].items()}
        version = self._site.write(name, None if self._site.deleted(name) else document)
        await self._tell(name, ALL_ASPECTS, version)

    async def _tell(self, name: str, aspects: tuple[str, ...], version: int) -> None:
        change = Change(
            id=f"{name}@{version}",
            resource=name,
            aspects=aspects,
            version=version.to_bytes(16, "big"),
            cause=Cause("edit", "author"),
            lane=self._rng.choice(["", "", "fast"]),
            time_ns=self._host.clock.time_ns() + self._rng.randrange(-(10**13), 10**13),
        )
        self._trace("author", f"writes {name} version {version}: {self._site.document(name)}")
        while True:
            try:
                sequence = await self._host.call(lambda: self._publish(change))
                break
            except (EngineError, WellspringError):
                await asyncio.sleep(self._rng.uniform(0, _AGAIN_S))
        self._invariants.acknowledge(change.id, sequence)
        self._trace("author", f"is told that {change.id} is accepted")
        if self._rng.random() < 0.1:
            await self._again(change)

    async def _publish(self, change: Change) -> int:
        accepted, durable = self._host.up.publish(change)
        if durable is not None:
            await durable
        else:
            await self._host.up.durable()
        return accepted.sequence

    async def _again(self, change: Change) -> None:
        """The same once more, as after an answer that was lost."""
        try:
            await self._host.call(lambda: self._publish(change))
        except (EngineError, WellspringError):
            return


class Readers:
    """Read pages through every cache, and look whether they go back."""

    def __init__(self, caches: Sequence[Cache], site: Site, invariants: Invariants, rng: Random) -> None:
        self._caches = caches
        self._site = site
        self._invariants = invariants
        self._rng = rng

    async def read(self) -> None:
        """One page through one cache."""
        if not self._site.pages:
            return
        cache = self._rng.choice(list(self._caches))
        places = list(cache.purged) if self._rng.random() < 0.7 else []
        place = self._rng.choice(places or list(self._site.pages))
        seen = self._invariants.seen(cache.name, place)
        page = await cache.get(place)
        if page is not None:
            self._invariants.read(cache.name, place, page.version, seen)


class Auditor:
    """Looks from outside what caches have, and purges again what is older than the store."""

    def __init__(self, caches: Sequence[Cache], site: Site, lost: set[tuple[str, Place]], trace: Trace) -> None:
        self._caches = caches
        self._site = site
        self._lost = lost
        self._trace = trace
        self.repaired = 0

    def look(self) -> None:
        """At everything; a lost purge in an inner cache is repaired before the outer ones are."""
        for place, page in list(self._site.pages.items()):
            for cache in self._caches:
                held = cache.held(place)
                if held is not None and held.version < page.version:
                    self.repaired += 1
                    cache.purge(place, page.version)
                if self._site.replica.lag_s == 0 or cache.name != "plain":
                    self._lost.discard((cache.name, place))


async def again_and_again(
    act: Callable[[], Coroutine[Any, Any, None]], every_s: Callable[[], float], rng: Random, tasks: asyncio.TaskGroup
) -> None:
    """Begins `act` every so often on average, without waiting for it to end; while `every_s` is 0, waits."""
    while True:
        mean_s = every_s()
        await asyncio.sleep(rng.expovariate(1 / mean_s) if mean_s else 5.0)
        if mean_s and every_s():
            tasks.create_task(act())
