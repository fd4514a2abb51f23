"""Doing what a rule says for one event: its requests in order, tried again, given up with a reason.

A wait between attempts holds none of the rule's slots. A request that was answered is not made again when a later one
of the same event fails. What is not answered at all counts as 504; what a target's breaker or the retry budget holds
back is no attempt, and waits.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from libs.clock.clock import Clock
from libs.errors.errors import AlreadyExists, FailedPrecondition, InvalidArgument, WellspringError
from libs.telemetry.logs import fields
from services.propagation.domain.change import Change
from services.propagation.rules import events
from services.propagation.rules.changes import Announcement
from services.propagation.rules.events import Event
from services.propagation.rules.requests import Publication, Request
from services.propagation.rules.rule import Decision, Rule
from services.propagation.rules.schemas import mismatch
from services.propagation.rules.sources import Sink
from services.propagation.rules.templates import TemplateFailed

log = logging.getLogger(__name__)

UNANSWERED = 504
SINK_RETRY_S = 1.0
MAX_HOPS = 32
"""Rules that publish one after the other, each what the one before published: more is a loop."""
MAX_TURNS = 8
"""How often an event may come by the same topic with the same uri, by whomever: more is a loop."""
JITTER = 0.2
"""Share of a wait that is added at random, so that what failed together does not come back together."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a request: its status; 0 when there was none, and `error` says why. `wait_s` above 0: it was held back, and
    may be tried after so long."""

    status: int = 0
    error: str = ""
    wait_s: float = 0.0


Announcer = Callable[[Sequence[Change]], Awaitable[None]]
"""Returns when the changes are durable; raises what the engine raises."""


class Caller(Protocol):
    """Makes requests: never raises for what the target does."""

    async def call(self, request: Request, *, again: bool) -> Answer:
        """One attempt; `again` says that it is not the first one."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an event was given up."""

    reason: str
    detail: str
    attempts: int


@dataclass(slots=True)
class Counters:
    """Since the start, of one rule."""

    events: int = 0
    matched: int = 0
    requests: int = 0
    retries: int = 0
    done: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """An event and the rule that it runs under. `service` is our name in chains and topics, `origin` where the event
    stands: the same whenever it is worked on again; `hops` as of its delivery."""

    rule: Rule
    service: str
    topic: str
    event: Event
    decision: Decision
    arrived_ns: int
    origin: str = ""
    counters: Counters = field(default_factory=Counters)
    hops: int = 0


class Performer:
    """Does the work of all rules. `changes` takes those that rules make, `sink` the events that rules publish and those
    that tell of retries."""

    def __init__(self, caller: Caller, changes: Announcer, sink: Sink | None, clock: Clock, rng: Random) -> None:
        self._caller = caller
        self._changes = changes
        self._sink = sink
        self._clock = clock
        self._rng = rng

    async def perform(self, work: Work) -> Failure | None:
        """Ends when all is done or given up; None when it is done."""
        await self._delay(work)
        turns = events.turns(work.event, work.topic)
        if turns >= MAX_TURNS:
            chain = events.header_of(str(work.event.get("triggered_by")))
            return Failure("LOOP", f"the event has come by here {turns} times before: {chain[-800:]}", 0)
        try:
            actions = [action.build(work.decision.context) for action in work.decision.actions]
        except TemplateFailed as problem:
            return Failure("TEMPLATE_FAILED", str(problem), 0)
        return await self._attempts(work, actions)

    async def _delay(self, work: Work) -> None:
        due_ns = work.arrived_ns + int(work.rule.delay_s * 1e9)
        left_s = min(work.rule.delay_s, (due_ns - self._clock.time_ns()) / 1e9)
        if left_s > 0:
            await self._clock.sleep(left_s)

    async def _attempts(self, work: Work, actions: Sequence[Request | Publication | Announcement]) -> Failure | None:
        retries = work.rule.retries
        chain = events.triggered_by(work.event, work.topic)
        failures = 0
        done = 0
        while done < len(actions):
            action = actions[done]
            async with work.rule.slots:
                if not isinstance(action, Request):
                    refused = await self._put(action, work, done)
                    if refused is not None:
                        return Failure(refused.reason, refused.message, failures + 1)
                    done += 1
                    continue
                answer = await self._call(action, chain, work, again=failures > 0)
            if answer.wait_s > 0:
                await self._clock.sleep(answer.wait_s)
                continue
            status = answer.status or UNANSWERED
            if status < 400 or retries.ignore.holds(status):
                done += 1
                continue
            failures += 1
            if not retries.on.holds(status) or failures > retries.limit:
                return _failure(action, answer, failures)
            await self._tell_retry(work, chain, status, retries.limit - failures)
            chain = events.chained(chain, f"{work.service}.retry.{work.topic}", work.event)
            await self._clock.sleep(retries.backoff_s(failures) * (1 + JITTER * self._rng.random()))
        return None

    async def _call(self, request: Request, chain: str, work: Work, *, again: bool) -> Answer:
        headers = {
            **request.headers,
            "x-triggered-by": events.header_of(chain),
            "x-request-id": events.header_of(events.meta_text(work.event, "request_id")),
        }
        if not headers["x-request-id"]:
            del headers["x-request-id"]
        made = Request(request.method, request.url, headers, request.body, request.timeout_s)
        answer = await self._caller.call(made, again=again)
        if answer.wait_s <= 0:
            work.counters.requests += 1
            work.counters.retries += again
        return answer

    async def _put(self, action: Publication | Announcement, work: Work, at: int) -> WellspringError | None:
        if isinstance(action, Publication):
            return await self._publish(action, work, at)
        return await self._announce(action, work, at)

    async def _announce(self, action: Announcement, work: Work, at: int) -> WellspringError | None:
        """Why a change is not taken as things are. Made again, after a crash or of an event that comes twice, it has
        the same id, and no effect."""
        told = events.meta_text(work.event, "id") or work.origin
        named = f"{work.rule.name}/{told}" + (f"~a{at}" if at else "")
        try:
            changes = action.changes(named, events.meta_text(work.event, "request_id"))
        except InvalidArgument as error:
            return error
        while True:
            try:
                await self._changes(changes)
            except (FailedPrecondition, InvalidArgument, AlreadyExists) as error:
                return error
            except WellspringError as error:
                log.warning("changes of an event cannot be taken now", extra=fields(reason=error.reason))
                await self._clock.sleep(SINK_RETRY_S)
            else:
                return None

    async def _publish(self, publication: Publication, work: Work, at: int) -> WellspringError | None:
        """Why an event is not taken as things are. Published again after a crash, an event has the same id."""
        if work.hops >= MAX_HOPS:
            what = f"the event was published by {work.hops} rules one after the other: they lead round for ever"
            return FailedPrecondition(what, reason="LOOP")
        chain = events.triggered_by(work.event, work.topic)
        for number, (topic, event) in enumerate(publication.events):
            told = events.published_event(
                event, work.event, chain, f"{work.rule.name}/{work.origin}/{at}/{number}", self._now()
            )
            problem = mismatch(told)
            if problem:
                return InvalidArgument(f"an event to publish {problem}", reason="SCHEMA_MISMATCH")
            try:
                await self._give(topic, told, work.hops + 1)
            except (FailedPrecondition, InvalidArgument) as error:
                return error
        return None

    def _now(self) -> int:
        return self._clock.time_ns()

    async def _tell_retry(self, work: Work, chain: str, status: int, left: int) -> None:
        if self._sink is not None:
            told = events.retry_event(work.service, work.topic, work.event, chain, status, left, self._now())
            await self._tell(f"{work.service}.retry.{work.topic}", told)

    async def tell_error(self, service: str, raw: bytes, problem: str) -> None:
        """Tells that something in a topic was no event."""
        if self._sink is not None:
            await self._tell(f"{service}.error", events.error_event(service, raw, problem, self._now()))

    async def _tell(self, topic: str, event: Event) -> None:
        """What is told of work must not hold it up: where its topic is missing, the log says so."""
        try:
            await self._give(topic, event)
        except (FailedPrecondition, InvalidArgument) as error:
            log.error("an event that tells of work is not taken", extra=fields(topic=topic, reason=error.reason))

    async def _give(self, topic: str, event: Event, hops: int = 0) -> None:
        """Gives the event to the sink, as often as it takes. Raises FailedPrecondition, InvalidArgument when it is not
        taken as things are."""
        assert self._sink is not None  # files that publish are refused where nothing takes events
        while True:
            try:
                await self._sink.publish(topic, event, hops)
            except (FailedPrecondition, InvalidArgument):
                raise
            except WellspringError as error:
                log.warning("an event cannot be published now", extra=fields(topic=topic, reason=error.reason))
                await self._clock.sleep(SINK_RETRY_S)
            else:
                return


def _failure(request: Request, answer: Answer, attempts: int) -> Failure:
    where = f"{request.method} {request.url}"
    if answer.status:
        return Failure(f"HTTP_{answer.status}", f"{where} answered {answer.status}", attempts)
    return Failure("UNANSWERED", f"{where}: {answer.error}", attempts)
