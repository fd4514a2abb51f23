"""A rule: which events it is about, what is asked for each of them, and what becomes of a request that fails."""

import re
from asyncio import Semaphore
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from services.propagation.rules.matching import ABSENT, UNKNOWN, Condition
from services.propagation.rules.requests import Action
from services.propagation.rules.sampling import in_sample
from services.propagation.rules.templates import Template, TemplateFailed

CANARY_DOMAIN = "canary"
DEFAULT_CONCURRENCY = 16


class Verdict(Enum):
    """Why an event is acted on or not."""

    MATCHES = "matches"
    NOT_MATCHED = "does not match"
    NOT_SAMPLED = "matches, but is not in the sample"
    CANARY = "is a canary, which the rule discards"
    NO_ACTION = "matches; the rule has no exec"
    NO_OBJECT = "is no object"


@dataclass(frozen=True, slots=True)
class Sample:
    """A stable share of the events, chosen by a key."""

    rate: float
    key: Template

    def takes(self, context: Mapping[str, object]) -> bool:
        """Whether the event is in the share; one without the key's fields is not."""
        try:
            return in_sample(self.key.text(context), self.rate)
        except TemplateFailed:
            return False


@dataclass(frozen=True, slots=True)
class Case:
    """A condition and what is done when it holds. The first case that holds is taken."""

    match: Condition | None
    match_not: Condition | None
    actions: tuple[Action, ...]
    sample: Sample | None = None

    def captures(self, event: object) -> object:
        """What templates see as `match`, or ABSENT when the case does not hold."""
        found: object = {}
        if self.match is not None:
            found = self.match(event)
        if found is ABSENT or (self.match_not is not None and self.match_not(event) is not ABSENT):
            return ABSENT
        return found

    def may_take(self, event: object) -> tuple[bool, bool]:
        """Of an event of which not all is known: whether the case may hold, and whether it surely does."""
        found = {} if self.match is None else self.match(event)
        kept_off = ABSENT if self.match_not is None else self.match_not(event)
        may = found is not ABSENT and (kept_off is ABSENT or kept_off is UNKNOWN)
        return may, may and found is not UNKNOWN and kept_off is ABSENT


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule makes of an event. `context` fills the templates of `actions`; `case` is the case's index."""

    verdict: Verdict
    case: int = -1
    actions: tuple[Action, ...] = ()
    context: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Statuses:
    """Statuses by number, x for any digit: 404, 50x, 5xx."""

    patterns: tuple[re.Pattern[str], ...]

    def holds(self, status: int) -> bool:
        """Whether the status is one of them."""
        return any(pattern.fullmatch(str(status)) for pattern in self.patterns)

    @classmethod
    def of(cls, *written: str) -> "Statuses":
        """Statuses as they are written."""
        return cls(tuple(re.compile(one.replace("x", r"\d"), re.ASCII) for one in written))


@dataclass(frozen=True, slots=True)
class Retries:
    """After an answer among `on` up to `limit` more attempts, `delay_s` × `factor`^n apart; `ignore` counts as done."""

    on: Statuses = field(default_factory=lambda: Statuses.of("50x"))
    ignore: Statuses = field(default_factory=lambda: Statuses.of("412"))
    limit: int = 2
    delay_s: float = 60.0
    factor: float = 6.0
    longest_s: float = 86_400.0

    def backoff_s(self, failures: int) -> float:
        """Seconds to wait after so many failures, 1 and more."""
        return float(min(self.longest_s, self.delay_s * self.factor ** (failures - 1)))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a file. `topics` are those of the sources that it listens to, patterns resolved."""

    name: str
    topics: frozenset[str]
    cases: tuple[Case, ...]
    retries: Retries = field(default_factory=Retries)
    constants: Mapping[str, object] = field(default_factory=dict)
    sample: Sample | None = None
    discard_canaries: bool = True
    delay_s: float = 0.0
    slots: Semaphore = field(default_factory=lambda: Semaphore(DEFAULT_CONCURRENCY))

    def consider(self, event: object) -> Decision:
        """What the rule makes of the event: never raises, whatever the event is."""
        if not isinstance(event, Mapping):
            return Decision(Verdict.NO_OBJECT)
        meta = event.get("meta")
        if self.discard_canaries and isinstance(meta, Mapping) and meta.get("domain") == CANARY_DOMAIN:
            return Decision(Verdict.CANARY)
        for index, case in enumerate(self.cases):
            found = case.captures(event)
            if found is not ABSENT:
                return self._decided(index, case, event, found)
        return Decision(Verdict.NOT_MATCHED)

    def _decided(self, index: int, case: Case, event: Mapping[str, object], found: object) -> Decision:
        context = {"message": event, "match": found, "globals": {**self.constants, "message": event}}
        sample = case.sample or self.sample
        if sample is not None and not sample.takes(context):
            return Decision(Verdict.NOT_SAMPLED, index)
        if not case.actions:
            return Decision(Verdict.NO_ACTION, index)
        return Decision(Verdict.MATCHES, index, case.actions, context)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of a file by name, and the name that this service has in `x-triggered-by` and in topics."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    service: str = "wellspring"
