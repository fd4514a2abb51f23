"""One rule in one stream: events in, work done side by side, the cursor behind all that is done.

At least once: the cursor never passes an event that is not done or a durable dead letter. Events of one key (meta.uri)
are worked on one after the other, in their order; at most WINDOW events are held at once.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from libs.clock.clock import Clock
from libs.errors.errors import WellspringError
from libs.telemetry.logs import fields
from services.propagation.rules.book import RuleBook
from services.propagation.rules.events import meta_text
from services.propagation.rules.performing import Counters, Failure, Performer, Work
from services.propagation.rules.rule import Verdict
from services.propagation.rules.sources import Delivery, Source
from services.propagation.rules.state import Cursor, Letter, State
from services.propagation.rules.topics import topic_of

log = logging.getLogger(__name__)

WINDOW = 500
"""Events read and not yet behind the cursor."""
_CHUNK = 100
_LOOK_S = 1.0
_RETRY_S = 1.0
_FLUSH_S = 0.05
"""Between two writes of a cursor."""


@dataclass(frozen=True, slots=True)
class LaneParts:
    """What all lanes use."""

    book: RuleBook
    state: State
    performer: Performer
    clock: Clock
    counters: Callable[[str], Counters]


class Lane:
    """Runs until the rule does not listen to the stream any more, or it is cancelled."""

    def __init__(self, name: str, stream: str, begin: int, source: Source, parts: LaneParts) -> None:
        self.name = name
        self.stream = stream
        self._source = source
        self._parts = parts
        self._counters = parts.counters(name)
        kept = parts.state.cursor(name, stream) or Cursor(begin)
        self.at = max(kept.at, begin)
        """Everything up to this position is done."""
        self._done_before = kept.done
        self._read_to = self.at
        self._open: dict[int, bool] = {}
        self._tails: dict[str, asyncio.Event] = {}
        self._moved = asyncio.Event()
        self._stale = asyncio.Event()
        self._flushed: tuple[int, frozenset[int]] | None = None
        self._nothing_to = -1
        """Where the stream ended when the last read found nothing."""

    @property
    def waiting(self) -> int:
        """Events at work, or done and not yet behind the cursor."""
        return len(self._open)

    @property
    def idle(self) -> bool:
        """Whether all that the stream holds now is done, durably."""
        ends = self._parts.book.ends(self.name, self.stream)
        behind = self._source.newest(self.stream) if ends is None else min(ends, self._source.newest(self.stream))
        return self.reached >= behind and not self._stale.is_set()

    @property
    def reached(self) -> int:
        """Every event up to this position is done, or there was none."""
        return self.at if self._open else max(self.at, self._nothing_to)

    async def run(self) -> None:
        """Reads, and lets the work be done. Raises what is no WellspringError."""
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._keep())
            while not self._over():
                try:
                    await self._turn(tasks)
                except WellspringError as error:
                    log.warning("a rule's topic cannot be read now", extra=self._about(reason=error.reason))
                    await self._parts.clock.sleep(_RETRY_S)
            keeping.cancel()
        await self._flush()

    def _over(self) -> bool:
        ends = self._parts.book.ends(self.name, self.stream)
        return ends is not None and not self._open and self.reached >= ends

    async def _turn(self, tasks: asyncio.TaskGroup) -> None:
        self._moved.clear()
        room = WINDOW - len(self._open)
        end = self._source.newest(self.stream)
        found = await self._source.read(self.stream, self._read_to, min(room, _CHUNK)) if room > 0 else []
        for delivery in found:
            await self._take(delivery, tasks)
        self._advance()
        if found:
            await asyncio.sleep(0)
            return
        if room > 0:
            self._nothing_to = end
        await self._news(room > 0)

    async def _news(self, listening: bool) -> None:
        """Until work has ended or, when there is room for more, something has come."""
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(self._moved.wait())]
        if listening:
            waits.append(asyncio.ensure_future(self._source.wait(self.stream, self._nothing_to, _LOOK_S)))
        try:
            await asyncio.wait(waits, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _take(self, delivery: Delivery, tasks: asyncio.TaskGroup) -> None:
        position = delivery.position
        self._read_to = position
        self._open[position] = True
        found = self._parts.book.at(self.name, self.stream, position)
        if position in self._done_before or found is None:
            return
        self._counters.events += 1
        rules, rule = found
        if delivery.event is None:
            log.error("a topic holds what is no event", extra=self._about(problem=delivery.problem))
            await self._parts.performer.tell_error(rules.service, delivery.raw, delivery.problem)
            return
        decision = rule.consider(delivery.event)
        if decision.verdict is not Verdict.MATCHES:
            return
        self._counters.matched += 1
        self._open[position] = False
        origin = f"{self.stream}/{position}"
        work = Work(
            rule,
            rules.service,
            topic_of(self.stream),
            delivery.event,
            decision,
            delivery.arrived_ns,
            origin,
            self._counters,
            delivery.hops,
        )
        key = meta_text(delivery.event, "uri") or str(position)
        before, mine = self._tails.get(key), asyncio.Event()
        self._tails[key] = mine
        tasks.create_task(self._work(work, delivery, key, before, mine))

    async def _work(
        self, work: Work, delivery: Delivery, key: str, before: asyncio.Event | None, mine: asyncio.Event
    ) -> None:
        if before is not None:
            await before.wait()
        failure = await self._parts.performer.perform(work)
        if failure is None:
            self._counters.done += 1
        else:
            self._counters.failed += 1
            await self._bury(delivery, failure)
        if self._tails.get(key) is mine:
            del self._tails[key]
        mine.set()
        self._open[delivery.position] = True
        self._advance()
        self._moved.set()

    async def _bury(self, delivery: Delivery, failure: Failure) -> None:
        now_ns = self._parts.clock.time_ns()
        letter = Letter(
            self.name,
            self.stream,
            delivery.position,
            failure.reason,
            failure.detail,
            failure.attempts,
            first_ns=now_ns,
            last_ns=now_ns,
            root=delivery.root,
            event=delivery.event or {},
        )
        log.warning("a rule gave an event up", extra=self._about(reason=failure.reason, detail=failure.detail))
        while True:
            try:
                await self._parts.state.put_letters([letter])
            except WellspringError as error:
                log.warning("a dead letter cannot be kept now", extra=self._about(reason=error.reason))
                await self._parts.clock.sleep(_RETRY_S)
            else:
                return

    def _advance(self) -> None:
        """Moves the cursor over all that is done from its beginning on."""
        while self._open:
            position = next(iter(self._open))
            if not self._open[position]:
                break
            del self._open[position]
            self.at = position
        self._stale.set()

    async def _keep(self) -> None:
        """Writes the cursor behind what is done, for ever."""
        while True:
            await self._stale.wait()
            try:
                await self._flush()
            except WellspringError as error:
                log.warning("a rule's cursor cannot be kept now", extra=self._about(reason=error.reason))
                await self._parts.clock.sleep(_RETRY_S)
            await self._parts.clock.sleep(_FLUSH_S)

    async def _flush(self) -> None:
        at, done = self.at, frozenset(position for position, over in self._open.items() if over)
        if (at, done) != self._flushed:
            await self._parts.state.put_cursor(self.name, self.stream, Cursor(at, done))
            self._flushed = (at, done)
        if (at, len(done)) == (self.at, sum(self._open.values())):
            self._stale.clear()

    def _about(self, **more: str) -> dict[str, object]:
        return fields(rule=self.name, topic=self.stream, **more)
