"""Samples pages from outside: some of those that changed, at set times after the change, and some that did not.

What a look finds stale is purged and looked at again; if the store itself is behind, the page is rendered anew.
"""

import asyncio
import heapq
import itertools
import logging
import math
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random

from libs.clock.clock import Clock
from libs.telemetry.logs import fields
from services.propagation.auditor.addressing import PageAddress, ViewAddresses, addresses
from services.propagation.auditor.freshness import RANDOM, Freshness, delay_name
from services.propagation.auditor.judging import Expected, Verdict
from services.propagation.auditor.looks import Look, Looks
from services.propagation.auditor.ports import ChangedOutput, Engine, Pages
from services.propagation.auditor.repairs import Repairs
from services.propagation.auditor.reservoir import Reservoir
from services.propagation.executor.hashing import GONE
from wellspring_client.errors import WellspringError

logger = logging.getLogger(__name__)

WORKERS = 16
TICK_S = 0.25
RETRY_S = 1.0
LEAST_HEARD_PER_S, HEARD_EACH = 1_000, 20
"""Changes listened to in a second: so many at least, and so many for each that is to be picked."""
VIEWS_S = 10.0
"""Between looks at the engine's views."""
LATE_S = 1.0
"""A look so much later than its delay would say something about another delay: it is not made."""


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """Pages a second that changed, and that did not; `delays_s` after the change they are looked at, ascending."""

    per_s: float
    delays_s: tuple[float, ...]
    random_per_s: float


@dataclass(slots=True)
class _Sample:
    """A page that is followed. `began_s` is when it changed (monotonic); `waiting` are caches not yet seen fresh."""

    view: ViewAddresses
    page: PageAddress
    expected: Expected | None
    began_s: float
    delays: list[float]
    label: str = ""
    waiting: set[str] = field(default_factory=set)


class Sampler:
    """Runs until cancelled. `pool` are pages of any age, for looks at those that did not change."""

    def __init__(
        self,
        engine: Engine,
        pages: Pages,
        looks: Looks,
        repairs: Repairs,
        freshness: Freshness,
        pool: Reservoir[tuple[str, str]],
        clock: Clock,
        rng: Random,
        options: SamplingOptions,
    ) -> None:
        self._engine = engine
        self._pages = pages
        self._looks = looks
        self._repairs = repairs
        self._freshness = freshness
        self._pool = pool
        self._clock = clock
        self._options = options
        self._window_s = max(1.0, 1.0 / options.per_s) if options.per_s else 1.0
        self._window: Reservoir[tuple[ChangedOutput, float]] = Reservoir(round(options.per_s * self._window_s), rng)
        self._due: list[tuple[float, int, _Sample]] = []
        self._order = itertools.count()
        self._queue: asyncio.Queue[_Sample] = asyncio.Queue(4 * WORKERS)
        self._most_heard = max(LEAST_HEARD_PER_S, HEARD_EACH * options.per_s)
        longest = options.delays_s[-1]
        # Twice what the rates make: more is open only while the caches answer slowly.
        self._most_open = 2 * math.ceil((options.per_s + options.random_per_s) * (longest + 2)) + 100
        self._views: dict[str, ViewAddresses] = {}
        self._views_read_s = -math.inf

    async def run(self) -> None:
        """Follows the engine, keeps the times, looks."""
        async with asyncio.TaskGroup() as group:
            if self._options.per_s:
                group.create_task(self._follow())
            group.create_task(self._keep_time())
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _follow(self) -> None:
        while True:
            try:
                await self._listen()
            except WellspringError as error:
                logger.warning("the engine's changes cannot be followed", extra=fields(reason=error.reason))
            await self._clock.sleep(RETRY_S)

    async def _listen(self) -> None:
        """Hears of changes until there are too many: a sample needs few, and telling each costs the engine."""
        second, heard = -1, 0
        async with aclosing(self._engine.changes()) as changes:
            async for changed in changes:
                arrived_s = self._clock.monotonic()
                if int(arrived_s) != second:
                    second, heard = int(arrived_s), 0
                for one in changed:
                    self._window.offer((one, arrived_s))
                heard += len(changed)
                if heard > self._most_heard:
                    return

    async def _keep_time(self) -> None:
        window_end_s = self._clock.monotonic() + self._window_s
        owed = 0.0
        while True:
            await self._clock.sleep(TICK_S)
            now_s = self._clock.monotonic()
            if now_s >= window_end_s:
                window_end_s = now_s + self._window_s
                await self._begin(self._window.take())
            owed = min(owed + TICK_S * self._options.random_per_s, max(1.0, self._options.random_per_s))
            while owed >= 1.0:
                owed -= 1.0
                await self._begin_random()
            while self._due and self._due[0][0] <= now_s and not self._queue.full():
                self._queue.put_nowait(heapq.heappop(self._due)[2])

    async def _begin(self, picked: Sequence[tuple[ChangedOutput, float]]) -> None:
        caches = {cache.name for cache in self._looks.caches}
        for changed, arrived_s in picked:
            view = await self._view(changed.view)
            if view is None:
                continue
            age_s = max(0.0, (self._clock.time_ns() - changed.time_ns) / 1e9) if changed.time_ns else 0.0
            # The moment it changed, as far as the engine's clock and ours agree; never later than it arrived.
            began_s = min(arrived_s, self._clock.monotonic() - age_s)
            expected = Expected(changed.version, gone=changed.hash == GONE)
            sample = _Sample(view, view.of(changed.resource), expected, began_s, list(self._options.delays_s))
            sample.waiting = set(caches)
            self._schedule(sample)

    async def _begin_random(self) -> None:
        chosen = self._pool.choose()
        view = await self._view(chosen[0]) if chosen is not None else None
        if chosen is not None and view is not None:
            now_s = self._clock.monotonic()
            self._push(now_s, _Sample(view, view.of(chosen[1]), None, now_s, [], RANDOM))

    async def _view(self, name: str) -> ViewAddresses | None:
        now_s = self._clock.monotonic()
        if now_s - self._views_read_s > VIEWS_S:
            self._views_read_s = now_s
            try:
                self._views = addresses(await self._engine.views())
            except WellspringError as error:
                logger.warning("the engine's views cannot be read", extra=fields(reason=error.reason))
        return self._views.get(name)

    def _schedule(self, sample: _Sample) -> None:
        """Its next look, past over those whose time is over; after the last, what never was fresh is told."""
        now_s = self._clock.monotonic()
        while sample.delays:
            delay_s = sample.delays.pop(0)
            if sample.began_s + delay_s + max(LATE_S, 0.1 * delay_s) >= now_s:
                sample.label = delay_name(delay_s)
                self._push(sample.began_s + delay_s, sample)
                return
        for cache in sample.waiting:
            self._freshness.first_fresh(cache, None)

    def _push(self, due_s: float, sample: _Sample) -> None:
        if len(self._due) >= self._most_open:
            self._freshness.skipped += 1
            return
        heapq.heappush(self._due, (due_s, next(self._order), sample))

    async def _work(self) -> None:
        while True:
            sample = await self._queue.get()
            try:
                await self._look(sample)
            except WellspringError as error:
                # The store or the engine is away: no look, no judgement.
                logger.warning("a page could not be judged", extra=fields(page=sample.page.resource, why=error.reason))
                self._freshness.skipped += 1

    async def _look(self, sample: _Sample) -> None:
        if sample.expected is None:
            await self._read_expected(sample)
            return
        looks = await self._looks.look(sample.view, sample.page, sample.expected)
        for look in looks:
            self._freshness.record(
                look, sample.label, sample.page.view, sample.page.resource, self._clock.time_ns() / 1e9
            )
        if sample.label != RANDOM:
            self._note_fresh(sample, looks)
        if any(look.repaired is False for look in looks):
            await self._mend_store(sample)
        if sample.label != RANDOM:
            self._schedule(sample)

    async def _read_expected(self, sample: _Sample) -> None:
        """Of a page that did not change: what is stored now is what readers must get a little later."""
        (stored,) = await self._pages.fetch(sample.view.namespace, sample.view.item_key, [sample.page.wanted])
        if stored is not None:
            sample.expected = Expected(stored.version)
            self._push(self._clock.monotonic() + self._options.delays_s[0], sample)

    def _note_fresh(self, sample: _Sample, looks: Sequence[Look]) -> None:
        delay_s = next(d for d in self._options.delays_s if delay_name(d) == sample.label)
        by_cache: dict[str, set[Verdict]] = {}
        for look in looks:
            by_cache.setdefault(look.cache, set()).add(look.verdict)
        for cache, verdicts in by_cache.items():
            if verdicts == {Verdict.FRESH} and cache in sample.waiting:
                sample.waiting.discard(cache)
                self._freshness.first_fresh(cache, delay_s)

    async def _mend_store(self, sample: _Sample) -> None:
        """A cache that is stale after its purge has it from behind: if the store is, the page is rendered anew."""
        assert sample.expected is not None
        (stored,) = await self._pages.fetch(
            sample.view.namespace, sample.view.item_key, [sample.page.wanted], strong=True
        )
        behind = not sample.expected.gone if stored is None else stored.version < sample.expected.version
        if behind:
            await self._repairs.rerender_now(sample.page.view, [sample.page.resource], "the store is behind its purge")
