"""One target: what waits for it, what runs, and what its answers say of how much it can take.

A lane is one caller's share of a target (a view's renders, its calls): the lanes take turns, and each may have a bound
of its own. What waits holds no connection; when the breaker opens, what waits is given back at once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from libs.telemetry.logs import fields
from services.propagation.targets.breaker import Breaker
from services.propagation.targets.exchange import CANCELLED, TIMEOUT, TOO_LARGE, WITHHELD, Exchange
from services.propagation.targets.limits import AdaptiveLimit

logger = logging.getLogger(__name__)

TOO_MANY_REQUESTS = 429
_LOOK_EVERY_S = 0.25
_LOOK_AT_LEAST_S = 0.005


OnEnd = Callable[[Sequence[Exchange]], None]
"""Takes the exchanges that have ended in one step: what many at once cost is shared by them."""


class Sender(Protocol):
    """What carries exchanges, and tells an OnEnd: a Pool, or a test's stand-in."""

    def send(self, exchanges: Sequence[Exchange]) -> None: ...

    def abort(self, exchange: Exchange) -> None: ...

    async def close(self) -> None: ...


class Lane:
    """One caller's share; at most `maximum` of it run at once. One that `yields` starts only what was submitted as
    first while its target is held."""

    __slots__ = ("maximum", "running", "target", "waiting", "yields")

    def __init__(self, target: "Target", maximum: int, yields: bool = False) -> None:
        self.target = target
        self.maximum = maximum
        self.yields = yields
        self.running = 0
        # Bounded by what the callers hold: a slice each.
        self.waiting: deque[Exchange] = deque()

    def submit(self, *exchanges: Exchange, first: bool = False) -> None:
        """Runs each when its turn comes; its `on_end` is called once, perhaps before this returns. `first`: before
        whatever waits in this lane."""
        self.target.submit(self, exchanges, first)

    def cancel(self, exchange: Exchange) -> None:
        """Lets go of it: its `on_end` is not called any more."""
        self.target.cancel(self, exchange)

    def may_start(self, held: bool) -> bool:
        """Whether something waits that may be started now."""
        if not self.waiting or self.running >= self.maximum:
            return False
        return not (held and self.yields) or self.waiting[0].first

    def close(self) -> None:
        """The caller has no more to ask."""
        self.target.drop(self)


class Target:
    """`make_sender` is called with what must be called when an exchange has ended. Belongs to one event loop, whose
    clock it follows."""

    def __init__(
        self,
        origin: str,
        max_concurrency: int,
        make_sender: Callable[[OnEnd], Sender],
        rng: Random | None = None,
    ) -> None:
        self.origin = origin
        self.limit = AdaptiveLimit(max_concurrency)
        self.breaker = Breaker(rng or Random())  # noqa: S311  jitter
        self._sender = make_sender(self._ended)
        self._loop = asyncio.get_running_loop()
        self._lanes: deque[Lane] = deque()
        self._running: dict[Exchange, None] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at_s = 0.0
        self._busy = False
        self._held = False
        # In all lanes together.
        self._waiting = 0

    @property
    def running(self) -> int:
        """Exchanges under way."""
        return len(self._running)

    def retry_after_s(self) -> float:
        """0: it may be asked; else the breaker is open for so long."""
        return self.breaker.retry_after_s(self._loop.time())

    def room(self) -> int | None:
        """How many requests it may be given at once; None: as many as one likes."""
        return self.breaker.room(self._loop.time())

    def hold(self, held: bool) -> None:
        """While held, lanes that yield start what was submitted as first, and nothing else."""
        self._held = held
        if not held:
            self._dispatch(self._loop.time())

    def lane(self, maximum: int, *, yields: bool = False) -> Lane:
        """A caller's share; see Lane for `yields`."""
        lane = Lane(self, maximum, yields)
        self._lanes.append(lane)
        return lane

    def drop(self, lane: Lane) -> None:
        """Forgets a lane; what waits in it is given back as cancelled."""
        if lane in self._lanes:
            self._lanes.remove(lane)
        self._waiting -= len(lane.waiting)
        while lane.waiting:
            exchange = lane.waiting.popleft()
            exchange.error, exchange.detail = CANCELLED, "its caller has ended"
            exchange.on_end(exchange)

    def submit(self, lane: Lane, exchanges: Sequence[Exchange], first: bool = False) -> None:
        """See Lane.submit."""
        for exchange in exchanges:
            exchange.lane = lane
            exchange.first = first
        now_s = self._loop.time()
        if self.breaker.room(now_s) == 0:
            for exchange in exchanges:
                self._withhold(exchange)
            return
        if first:
            lane.waiting.extendleft(reversed(exchanges))
        else:
            lane.waiting.extend(exchanges)
        self._waiting += len(exchanges)
        self._dispatch(now_s)

    def cancel(self, lane: Lane, exchange: Exchange) -> None:
        """See Lane.cancel."""
        if exchange in self._running:
            del self._running[exchange]
            lane.running -= 1
            self._sender.abort(exchange)
            self._dispatch(self._loop.time())
        elif exchange in lane.waiting:
            lane.waiting.remove(exchange)
            self._waiting -= 1

    async def close(self) -> None:
        """Ends the connections."""
        if self._alarm is not None:
            self._alarm.cancel()
        await self._sender.close()

    def _dispatch(self, now_s: float) -> None:
        if self._busy or not self._waiting:
            return  # called again by what it calls: the loop below goes on
        self._busy = True
        try:
            while starting := self._start(now_s):
                self._sender.send(starting)
            self.limit.pressed = self.limit.pressed or self._waiting > 0
        finally:
            self._busy = False

    def _start(self, now_s: float) -> list[Exchange]:
        """What may run now besides what runs; it is counted as running."""
        room = int(self.limit.limit) - len(self._running)
        allowed = self.breaker.room(now_s)
        if allowed is not None:
            room = min(room, allowed - len(self._running))
        starting: list[Exchange] = []
        while len(starting) < room and (lane := self._next_lane()) is not None:
            exchange = lane.waiting.popleft()
            lane.running += 1
            exchange.began_s = now_s
            exchange.deadline_s = now_s + exchange.timeout_s
            starting.append(exchange)
        if starting:
            self._waiting -= len(starting)
            self._running.update(dict.fromkeys(starting))
            look_s = min(now_s + _LOOK_EVERY_S, min([exchange.deadline_s for exchange in starting]))
            if self._alarm is None or look_s < self._alarm_at_s:
                self._look_at(look_s)
        return starting

    def _next_lane(self) -> Lane | None:
        """The next lane that has something waiting and room for it."""
        lanes = self._lanes
        if len(lanes) == 1:
            lane = lanes[0]
            return lane if lane.may_start(self._held) else None
        for _ in range(len(lanes)):
            lane = lanes[0]
            lanes.rotate(-1)
            if lane.may_start(self._held):
                return lane
        return None

    def _look_at(self, when_s: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at_s = when_s
        self._alarm = self._loop.call_at(when_s, self._look)

    def _look(self) -> None:
        """Ends what has taken too long, and learns from what still runs."""
        self._alarm = None
        now_s = self._loop.time()
        for exchange in [one for one in self._running if now_s >= one.deadline_s]:
            self._sender.abort(exchange)
            exchange.error, exchange.detail = TIMEOUT, f"no answer in {exchange.timeout_s:g} s"
            self._ended((exchange,))
        if not self._running:
            return
        began = sorted(exchange.began_s for exchange in self._running if exchange.began_s <= now_s)
        if began:
            self.limit.overdue(now_s, now_s - began[len(began) // 2])
        next_s = min(min(exchange.deadline_s for exchange in self._running), now_s + _LOOK_EVERY_S)
        self._look_at(max(next_s, now_s + _LOOK_AT_LEAST_S))

    def _ended(self, exchanges: Sequence[Exchange]) -> None:
        now_s = self._loop.time()
        running = self._running
        total_s = 0.0
        ended: list[Exchange] = []
        bad: list[Exchange] = []
        for exchange in exchanges:
            if exchange not in running:
                continue
            del running[exchange]
            lane = exchange.lane
            if isinstance(lane, Lane):
                lane.running -= 1
            exchange.took_s = now_s - exchange.began_s
            total_s += exchange.took_s
            ended.append(exchange)
            if exchange.status >= 400 or exchange.error is not None:
                bad.append(exchange)
        if not ended:
            return
        self._learn(now_s, len(ended), total_s, bad)
        for exchange in ended:
            exchange.on_end(exchange)
        if self._waiting:
            self._dispatch(now_s)

    def _learn(self, now_s: float, count: int, total_s: float, bad: Sequence[Exchange]) -> None:
        """From so many ends; `bad` are those among them that may say something against the target."""
        # A page that is too large says nothing of the target.
        broken = [one for one in bad if one.status >= 500 or (one.error is not None and one.error != TOO_LARGE)]
        refused = sum(one.status == TOO_MANY_REQUESTS for one in bad)
        self.limit.ended(now_s, total_s, count, len(broken) + refused)
        if len(broken) < count and self.breaker.succeeded(now_s, count - len(broken)):
            self.limit.restart()
            logger.info("target answers again", extra=fields(target=self.origin))
        for exchange in broken:
            if self.breaker.failed(now_s):
                self._leave_alone(exchange.error or f"HTTP {exchange.status}", now_s)

    def _leave_alone(self, why: str, now_s: float) -> None:
        wait_s = round(self.breaker.retry_after_s(now_s), 1)
        logger.warning("target fails: left alone", extra=fields(target=self.origin, why=why, for_s=wait_s))
        for lane in list(self._lanes):
            given_back, lane.waiting = lane.waiting, deque()
            self._waiting -= len(given_back)
            for waiting in given_back:
                self._withhold(waiting)

    def _withhold(self, exchange: Exchange) -> None:
        exchange.error = WITHHELD
        exchange.retry_after_s = max(0.1, self.retry_after_s())
        exchange.detail = f"{self.origin} fails and is left alone for {exchange.retry_after_s:.1f} s"
        exchange.on_end(exchange)
