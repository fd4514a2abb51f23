"""The rules of an engine: what is in force, what runs, and what operators do with it."""

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from random import Random

from libs.clock.clock import Clock
from libs.config.config import Mistake
from libs.errors.errors import WellspringError
from services.propagation.domain.change import Change
from services.propagation.domain.engine import Engine
from services.propagation.rules.book import RuleBook
from services.propagation.rules.parsing import SOURCE
from services.propagation.rules.performing import Announcer, Caller
from services.propagation.rules.runner import Runner
from services.propagation.rules.sources import EngineSource, Sink, Source, Sources
from services.propagation.rules.state import Letter, State
from services.propagation.rules.topics import ENGINE_TOPICS

VIEW_PREFIX = "rule/"
"""Dead letters of rules are asked for as those of the view `rule/<name>`; `rule/` alone means all rules."""


class Rules:
    """`own` are the topics of the engine's log that are told, `extra` sources beside it; `sink` takes the events that
    rules publish, `changes` the changes that they make (None: the engine does)."""

    def __init__(
        self,
        engine: Engine,
        caller: Caller,
        clock: Clock,
        rng: Random,
        extra: Sequence[Source] = (),
        sink: Sink | None = None,
        changes: Announcer | None = None,
        own: frozenset[str] = ENGINE_TOPICS,
    ) -> None:
        """Reads what was put. Raises ConfigError when this version does not take it any more."""
        self._caller = caller
        self._engine = engine
        self.sources = Sources([EngineSource(engine, own), *extra])
        self.state = State(engine)
        self.book = RuleBook(self.state, self.sources, publishes=sink is not None)
        changes = changes or self._announce
        self.runner = Runner(self.book, self.state, self.sources, caller, changes, clock, rng, sink)

    async def _announce(self, changes: Sequence[Change]) -> None:
        """Gives changes that rules made to the engine. Raises the first refusal; those before it are taken."""
        outcomes, durable = self._engine.publish_all(changes)
        if durable is not None:
            await durable
        else:
            await self._engine.durable()
        for outcome in outcomes:
            if isinstance(outcome, WellspringError):
                raise outcome

    def validate(self, text: str) -> Sequence[Mistake]:
        """The mistakes in the text of a rules file."""
        return self.book.validate(text)

    def put(self, text: str, if_revision: int = 0, *, source: str = SOURCE) -> Awaitable[None]:
        """See RuleBook.put."""
        durable = self.book.put(text, if_revision, source=source)
        self.runner.look()
        return durable

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self.runner.run()
        finally:
            await self._caller.close()

    # -- dead letters -------------------------------------------------------------------------------------------------

    def query(
        self, rule: str, resource_prefix: str, root: str, reason: str, limit: int, after: bytes
    ) -> tuple[list[Letter], bytes]:
        """Up to `limit` dead letters after a key, of a rule ("": of all); and the key to go on after, empty at the end.

        Empty texts match everything.
        """
        found: list[Letter] = []
        for letter in self.state.letters(rule, after):
            if not _matches(letter, resource_prefix, root, reason):
                continue
            if len(found) == limit:
                return found, found[-1].key
            found.append(letter)
        return found, b""

    def count(self, rule: str, resource_prefix: str = "", root: str = "", reason: str = "") -> int:
        """How many match."""
        return sum(1 for letter in self.state.letters(rule) if _matches(letter, resource_prefix, root, reason))

    def replay(self, letters: list[Letter]) -> tuple[int, Awaitable[None] | None]:
        """Marks those to be tried again whose rule is in force and that are not marked yet; answers how many."""
        chosen = [one for one in letters if not one.replay and one.rule in self.book.rules.rules]
        if not chosen:
            return 0, None
        durable = self.state.put_letters([replace(letter, replay=True) for letter in chosen])
        self.runner.look()
        return len(chosen), durable

    def discard(self, letters: list[Letter]) -> tuple[int, Awaitable[None] | None]:
        """Gives those up for good that are not being tried again."""
        chosen = [one for one in letters if not one.replay]
        return (len(chosen), self.state.drop_letters(chosen)) if chosen else (0, None)


def _matches(letter: Letter, resource_prefix: str, root: str, reason: str) -> bool:
    return letter.resource.startswith(resource_prefix) and root in ("", letter.root) and reason in ("", letter.reason)
