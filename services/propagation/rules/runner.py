"""Runs the rules: a lane for each rule and stream, and the dead letters that are to be tried again."""

import asyncio
import logging
from dataclasses import replace
from random import Random

from libs.clock.clock import Clock
from libs.errors.errors import WellspringError
from libs.telemetry.logs import fields
from services.propagation.rules.book import RuleBook
from services.propagation.rules.lane import Lane, LaneParts
from services.propagation.rules.performing import Announcer, Caller, Counters, Failure, Performer, Work
from services.propagation.rules.rule import Verdict
from services.propagation.rules.sources import Sink, Sources
from services.propagation.rules.state import Letter, State
from services.propagation.rules.topics import topic_of

log = logging.getLogger(__name__)

_LOOK_S = 0.2
_REPLAYED_AT_ONCE = 100


class Runner:
    """`run` until cancelled. What was done is behind the cursors; what was not is done again by the next life."""

    def __init__(
        self,
        book: RuleBook,
        state: State,
        sources: Sources,
        caller: Caller,
        changes: Announcer,
        clock: Clock,
        rng: Random,
        sink: Sink | None,
    ) -> None:
        self._book = book
        self._state = state
        self._sources = sources
        self._clock = clock
        self.counters: dict[str, Counters] = {}
        performer = Performer(caller, changes, sink, clock, rng)
        self._parts = LaneParts(book, state, performer, clock, self._counters_of)
        self._lanes: dict[tuple[str, str], tuple[Lane, asyncio.Task[None]]] = {}
        self._news = asyncio.Event()
        self._replaying = False

    def look(self) -> None:
        """The rules are others now, or dead letters wait to be tried again."""
        self._news.set()

    @property
    def waiting(self) -> dict[str, int]:
        """Events at work, by rule."""
        found = dict.fromkeys(self._book.rules.rules, 0)
        for (name, _), (lane, _) in self._lanes.items():
            found[name] = found.get(name, 0) + lane.waiting
        return found

    def reached(self) -> dict[tuple[str, str], int]:
        """By rule and stream: every event up to this position is done."""
        return {key: lane.reached for key, (lane, _) in self._lanes.items()}

    @property
    def idle(self) -> bool:
        """Whether all that the topics hold now is done, and no dead letter waits to be tried again."""
        if self._news.is_set() or self._replaying or set(self._book.lanes()) - set(self._lanes):
            return False
        return all(lane.idle for lane, _ in self._lanes.values())

    async def run(self) -> None:
        """Keeps a lane for each rule and stream."""
        self._news.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._replay_for_ever())
            while True:
                self._look(tasks)
                await self._forget()
                await self._clock.sleep(_LOOK_S)

    def _counters_of(self, name: str) -> Counters:
        return self.counters.setdefault(name, Counters())

    def _look(self, tasks: asyncio.TaskGroup) -> None:
        for key, (_, task) in list(self._lanes.items()):
            if task.done():
                del self._lanes[key]
        for (name, stream), begin in self._book.lanes().items():
            if (name, stream) in self._lanes or self._is_over(name, stream):
                continue
            lane = Lane(name, stream, begin, self._sources.of(stream), self._parts)
            self._lanes[name, stream] = (lane, tasks.create_task(lane.run()))

    def _is_over(self, name: str, stream: str) -> bool:
        ends = self._book.ends(name, stream)
        cursor = self._state.cursor(name, stream)
        return ends is not None and cursor is not None and cursor.at >= ends and not cursor.done

    async def _forget(self) -> None:
        def reached(name: str, stream: str) -> int:
            found = self._lanes.get((name, stream))
            if found is not None:
                return found[0].reached
            return 1 << 63 if self._book.ends(name, stream) is not None else 0

        try:
            durable = self._book.forget(reached)
            if durable is not None:
                await durable
        except WellspringError as error:
            log.warning("old rules cannot be forgotten now", extra=fields(reason=error.reason))

    # -- dead letters -------------------------------------------------------------------------------------------------

    async def _replay_for_ever(self) -> None:
        while True:
            self._news.clear()
            self._replaying = True
            try:
                while marked := self._marked():
                    async with asyncio.TaskGroup() as tasks:
                        for letter in marked:
                            tasks.create_task(self._replay(letter))
            except* WellspringError as errors:
                reason = ", ".join(str(error) for error in errors.exceptions)
                log.warning("dead letters cannot be tried again now", extra=fields(reason=reason))
                await self._clock.sleep(_LOOK_S)
                self._news.set()
            finally:
                self._replaying = False
            await self._news.wait()

    def _marked(self) -> list[Letter]:
        found: list[Letter] = []
        for letter in self._state.letters():
            if letter.replay and letter.rule in self._book.rules.rules:
                found.append(letter)
                if len(found) == _REPLAYED_AT_ONCE:
                    break
        return found

    async def _replay(self, letter: Letter) -> None:
        """Tries once more, under the rules in force; what they no longer match is done."""
        rules = self._book.rules
        rule = rules.rules[letter.rule]
        decision = rule.consider(letter.event)
        failure: Failure | None = None
        if decision.verdict is Verdict.MATCHES:
            counters = self._counters_of(letter.rule)
            origin = f"{letter.topic}/{letter.position}"
            work = Work(rule, rules.service, topic_of(letter.topic), letter.event, decision, 0, origin, counters)
            failure = await self._parts.performer.perform(work)
        if failure is None:
            await self._state.drop_letters([letter])
            return
        kept = replace(
            letter,
            reason=failure.reason,
            detail=failure.detail,
            attempts=letter.attempts + failure.attempts,
            last_ns=self._clock.time_ns(),
            replay=False,
        )
        await self._state.put_letters([kept])
