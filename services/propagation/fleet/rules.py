"""The rules of a fleet: run by whoever leads the first shard, in whose store their state lies, for as long as it does.

They are opened beside the shard's other work: a topic that is away, or unfit, holds up the rules and nothing else.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from libs.errors.errors import Unavailable, WellspringError
from libs.telemetry.logs import fields
from services.propagation.domain.engine import Engine
from services.propagation.files import rules_file
from services.propagation.fleet.changes import publish
from services.propagation.fleet.errors import NotTheFirstShard, ShardAway
from services.propagation.fleet.shards import Shards
from services.propagation.kafka.metrics import SourceCollector
from services.propagation.kafka.opening import EventTopics
from services.propagation.rules.caller import TargetsCaller
from services.propagation.rules.metrics import RulesCollector
from services.propagation.rules.rules import Rules
from services.propagation.rules.topics import CHANGED
from services.propagation.targets.targets import Targets

log = logging.getLogger(__name__)

OWN_TOPICS = frozenset((CHANGED,))
"""Of the engines' own: when a root has ended in all shards is known to whoever asks them, and stands in no log."""
_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class RulesSetup:
    """What rules work with: the `targets` that they call; `topics` opens those of other systems, None: there are none;
    `file` may be empty."""

    targets: Callable[[], Targets] = partial(Targets)
    topics: Callable[[Engine], Awaitable[EventTopics]] | None = None
    file: str = ""


class LedRules(Collector):
    """`run` while the first shard is led. Their metrics are there while they run."""

    def __init__(self, engine: Engine, shards: Shards, setup: RulesSetup) -> None:
        self._engine = engine
        self._shards = shards
        self._setup = setup
        self._running: tuple[Rules, EventTopics | None] | None = None
        self._why = ""

    def now(self) -> Rules:
        """Those that run. Raises ShardAway while they begin, Unavailable when they cannot."""
        if self._running is not None:
            return self._running[0]
        if not self._why:
            raise ShardAway("the rules are being opened")
        raise Unavailable(f"the rules do not run now: {self._why}", retry_after_s=_AGAIN_S, reason="RULES_AWAY")

    async def run(self) -> None:
        """Opens them, as often as it takes, and runs them until it is cancelled."""
        while True:
            try:
                rules, topics = await self._open()
                await self._work(rules, topics)
            except* WellspringError as errors:
                self._note(_first(errors))
            await asyncio.sleep(_AGAIN_S)

    async def _open(self) -> tuple[Rules, EventTopics | None]:
        topics = await self._setup.topics(self._engine) if self._setup.topics is not None else None
        shard = self._engine.shard
        try:
            rules = Rules(
                self._engine,
                TargetsCaller(self._setup.targets()),
                shard.clock,
                shard.rng,
                [topics.source] if topics is not None else [],
                topics.sink if topics is not None else None,
                partial(publish, self._shards),
                OWN_TOPICS,
            )
        except BaseException:
            if topics is not None:
                await topics.close()
            raise
        return rules, topics

    async def _work(self, rules: Rules, topics: EventTopics | None) -> None:
        self._running = rules, topics
        self._why = ""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(rules.run())
                if topics is not None:
                    tasks.create_task(topics.source.run())
                if self._setup.file:
                    tasks.create_task(rules_file(self._setup.file, rules).follow())
        finally:
            self._running = None
            if topics is not None:
                await topics.close()

    def _note(self, error: WellspringError) -> None:
        if error.message != self._why:
            log.error("the rules do not run now", extra=fields(reason=error.reason, why=error.message))
        self._why = error.message

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        away = GaugeMetricFamily("wellspring_propagation_rules_away", "1: the rules of the fleet do not run now.")
        away.add_metric([], self._running is None)
        yield away
        if self._running is None:
            return
        rules, topics = self._running
        yield from RulesCollector(rules).collect()
        if topics is not None:
            yield from SourceCollector(rules, topics.source).collect()


def elsewhere() -> Rules:
    """What another shard than the first has of them. Raises NotTheFirstShard."""
    raise NotTheFirstShard("rules are put into the first shard: leave the shard's number out")


def _first(errors: BaseExceptionGroup[WellspringError]) -> WellspringError:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group is never empty")
