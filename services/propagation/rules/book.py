"""The rules in force and those before them, as long as events still run under them.

An event runs under the revision that was in force when it was accepted: putting rules notes where each stream ends, and
what comes after that is the new revision's. A revision is forgotten when every rule has come past the next one's begin.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from libs.config.config import ConfigError, Mistake
from libs.telemetry.logs import fields
from services.propagation.domain.errors import RevisionMismatch
from services.propagation.rules.parsing import SOURCE, read_rules
from services.propagation.rules.rule import Rule, RuleSet
from services.propagation.rules.sources import Sources
from services.propagation.rules.state import Revision, State
from services.propagation.rules.topics import topic_of

log = logging.getLogger(__name__)

MAX_REVISIONS = 1_000
"""Kept at once; more means that rules are put faster than events are worked off."""


@dataclass(frozen=True, slots=True)
class _Kept:
    revision: Revision
    rules: RuleSet


class RuleBook:
    """Every kept revision. `publishes` says whether rules may publish events."""

    def __init__(self, state: State, sources: Sources, *, publishes: bool) -> None:
        """Reads what was put. Raises ConfigError when this version does not take it any more."""
        self._state = state
        self._sources = sources
        self._publishes = publishes
        self._kept = [
            _Kept(found, self._read(found.text, f"the rules in the store, revision {found.number}"))
            for found in state.revisions()
        ]

    def _read(self, text: str, source: str) -> RuleSet:
        return read_rules(text, self._sources.topics, source, publishes=self._publishes)

    @property
    def revision(self) -> int:
        """Of the rules in force; 0 before the first ones."""
        return self._kept[-1].revision.number if self._kept else 0

    @property
    def text(self) -> str:
        """Of the rules in force."""
        return self._kept[-1].revision.text if self._kept else ""

    @property
    def rules(self) -> RuleSet:
        """Those in force."""
        return self._kept[-1].rules if self._kept else RuleSet()

    def validate(self, text: str) -> Sequence[Mistake]:
        """The mistakes in the text."""
        try:
            self._read(text, SOURCE)
        except ConfigError as error:
            return error.mistakes
        return ()

    def put(self, text: str, if_revision: int = 0, *, source: str = SOURCE) -> Awaitable[None]:
        """Puts other rules in force; what it awaits is that they are durable.

        Raises ConfigError with the mistakes, RevisionMismatch when others were put since, Unavailable while the engine
        takes no writes or too many revisions are still at work.
        """
        if if_revision and if_revision != self.revision:
            raise RevisionMismatch(
                f"the rules are at revision {self.revision}, not {if_revision}: read them again",
                metadata={"revision": str(self.revision)},
            )
        rules = self._read(text, source)
        if len(self._kept) >= MAX_REVISIONS:
            raise RevisionMismatch(f"events still run under {MAX_REVISIONS:,} revisions; wait until they are done")
        starts = {
            stream: self._sources.of(stream).newest(stream) for stream in self._sources.streams(self._sources.topics)
        }
        revision = Revision(self.revision + 1, text, starts)
        durable = self._state.put_revision(revision)
        self._kept.append(_Kept(revision, rules))
        return durable

    def at(self, name: str, stream: str, position: int) -> tuple[RuleSet, Rule] | None:
        """The rule under which the event at the position runs, with its set; None when it does not listen to it."""
        for kept in reversed(self._kept):
            if position > kept.revision.starts.get(stream, 0):
                rule = kept.rules.rules.get(name)
                return (kept.rules, rule) if rule is not None and topic_of(stream) in rule.topics else None
        return None

    def lanes(self) -> dict[tuple[str, str], int]:
        """(rule, stream) of every kept revision → the position after which it begins to listen."""
        found: dict[tuple[str, str], int] = {}
        for kept in self._kept:
            for name, rule in kept.rules.rules.items():
                for stream in self._sources.streams(rule.topics):
                    found.setdefault((name, stream), kept.revision.starts.get(stream, 0))
        return found

    def ends(self, name: str, stream: str) -> int | None:
        """The position after which the rule does not listen to the stream any more; None when it does."""
        end: int | None = None
        for kept in self._kept:
            rule = kept.rules.rules.get(name)
            if rule is not None and topic_of(stream) in rule.topics:
                end = None
            elif end is None:
                end = kept.revision.starts.get(stream, 0)
        return end

    def forget(self, reached: Callable[[str, str], int]) -> Awaitable[None] | None:
        """Forgets old revisions that every lane has passed; `reached` says how far a lane has come."""
        lanes = self.lanes()
        gone = 0
        while gone + 1 < len(self._kept):
            starts = self._kept[gone + 1].revision.starts
            if any(reached(name, stream) < starts.get(stream, 0) for name, stream in lanes):
                break
            gone += 1
        if not gone:
            return None
        numbers = [kept.revision.number for kept in self._kept[:gone]]
        kept_lanes: set[tuple[str, str]] = set()
        for kept in self._kept[gone:]:
            kept_lanes |= {(name, topic) for name, rule in kept.rules.rules.items() for topic in rule.topics}
        over = [(name, stream) for name, stream in self._state.cursors() if (name, topic_of(stream)) not in kept_lanes]
        durable = self._state.forget_revisions(numbers, over)
        del self._kept[:gone]
        log.info("old rules are done with", extra=fields(revisions=len(numbers)))
        return durable
