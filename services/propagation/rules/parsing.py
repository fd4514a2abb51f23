"""The rules file: YAML with `rules`, by name, to rules that can be run.

Every mistake is found, with its line and column and what is allowed. What such files say elsewhere and is not kept
here is refused by name, with what to use instead.
"""

import re
from asyncio import Semaphore
from collections.abc import Iterable, Mapping
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode

from libs.config import tree
from libs.config.config import ConfigError
from services.propagation.rules.calls import DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S, read_actions
from services.propagation.rules.changes import Announce
from services.propagation.rules.loops import Step, loops
from services.propagation.rules.matching import Condition, compile_any
from services.propagation.rules.patterns import PatternInvalid, compile_pattern, is_pattern
from services.propagation.rules.reading import Reader
from services.propagation.rules.requests import Action
from services.propagation.rules.rule import DEFAULT_CONCURRENCY, Case, Retries, Rule, RuleSet, Sample, Statuses
from services.propagation.rules.sampling import LOWEST_RATE
from services.propagation.rules.templates import compile_text
from services.propagation.rules.topics import ENGINE_TOPICS

SOURCE = "rules"
MAX_RULES = 1_000
MAX_CONCURRENCY = 1_000
MAX_RETRIES = 100
MAX_DELAY_S = 86_400.0

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_STATUS = re.compile(r"[1-9x][0-9x]{2}")
_FILE_KEYS = ("service", "globals", "rules")
_CASE_KEYS = ("match", "match_not", "exec", "sample")
_RULE_KEYS = (
    *("topic", "topics", "exclude_topics", "match", "match_not", "cases", "exec", "sample", "timeout"),
    *("retry_on", "retry_limit", "retry_delay", "retry_factor", "ignore", "concurrency", "delay"),
    "discard_canary_events",
)
_REFUSED: Mapping[str, str] = {
    "claim_ttl": "nothing is dropped for its age; leave it out",
    "root_claim_ttl": "nothing is dropped for its age; leave it out",
    "limiters": "nothing is dropped by a rate: bound it with concurrency, or leave events out with match_not",
    "report": "whatever fails for good becomes a dead letter; leave it out",
    "decode_results": "answers are not read; leave it out",
    "reconsume_topic": "the cursor is kept by the engine; leave it out",
    "partitioner": "order is kept for each meta.uri; leave it out",
    "consumer_group": "the cursor is kept by rule and topic; leave it out",
}


def read_rules(text: str | bytes, topics: Iterable[str], source: str = SOURCE, *, publishes: bool = False) -> RuleSet:
    """The rules of the file's text, for the topics that there are; `publishes` says whether events can be published.

    Raises ConfigError with all mistakes, by their places.
    """
    root = tree.read(text, source)
    reader = Reader()
    reading = _Reading(reader, frozenset(topics), publishes)
    rules = reading.file(root)
    if reader.mistakes:
        raise ConfigError(reader.mistakes)
    return rules


class _Reading:
    """Reads one file."""

    def __init__(self, reader: Reader, topics: frozenset[str], publishes: bool) -> None:
        self._reader = reader
        self._topics = topics
        self._publishes = publishes
        self._constants: Mapping[str, object] = {}
        self._execs: dict[str, Node] = {}

    def file(self, root: Node) -> RuleSet:
        """The whole of it."""
        reader = self._reader
        entries = reader.entries(root, "", _FILE_KEYS)
        service = "wellspring"
        if "service" in entries:
            service = reader.text(entries["service"], "service") or service
        if "globals" in entries:
            self._constants = {
                name: reader.plain(node, f"globals.{name}")
                for name, node in reader.entries(
                    entries["globals"], "globals", refused={"message": "is the event itself; take another name"}
                ).items()
            }
        listed = reader.entries(entries["rules"], "rules") if "rules" in entries else {}
        if len(listed) > MAX_RULES:
            reader.wrong(entries["rules"], "rules", f"has {len(listed)} rules", f"at most {MAX_RULES:,} are allowed")
        rules = {name: self._rule(name, node, f"rules.{name}") for name, node in listed.items()}
        if not reader.mistakes:
            self._refuse_loops(rules)
        return RuleSet(rules, service)

    def _refuse_loops(self, rules: Mapping[str, Rule]) -> None:
        """Each mistake stands at the exec that closes the loop, and names the lines of all that are in it."""
        for turn in loops(rules):
            paths = [self._path_of(step) for step in turn]
            lines = [self._execs[path].start_mark.line + 1 for path in paths]
            shown = [f"{name} (line {line})" for (name, _), line in zip(turn, lines, strict=True)]
            what = f"leads round for ever: {' → '.join([*shown, turn[0][0]])}"
            allowed = "rules whose events do not come back to them: a match or match_not that holds such an event off"
            self._reader.wrong(self._execs[paths[-1]], f"{paths[-1]}.exec", what, allowed)

    def _path_of(self, step: Step) -> str:
        name, at = step
        case = f"rules.{name}.cases[{at}]"
        return case if case in self._execs else f"rules.{name}"

    def _rule(self, name: str, node: Node, path: str) -> Rule:
        reader = self._reader
        if not _NAME.fullmatch(name):
            allowed = "1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', beginning with a letter or '_'"
            reader.wrong(node, path, f'"{name}" is no name of a rule', allowed)
        if not isinstance(node, MappingNode):
            reader.wrong(node, path, "is no rule", f"a mapping with the keys {', '.join(_RULE_KEYS)}")
            return Rule(name, frozenset(), ())
        given = reader.entries(node, path, _RULE_KEYS, _REFUSED)
        canaries = self._given(given, "discard_canary_events", path, reader.truth)
        slots = self._given(given, "concurrency", path, lambda at, where: reader.count(at, where, 1, MAX_CONCURRENCY))
        delay_s = self._given(given, "delay", path, lambda at, where: reader.seconds(at, where, MAX_DELAY_S))
        timeout_s = self._given(given, "timeout", path, lambda at, where: reader.seconds(at, where, MAX_TIMEOUT_S))
        topics = self._topics_of(given, node, path)
        cases = self._cases(given, path, timeout_s or DEFAULT_TIMEOUT_S)
        if topics & ENGINE_TOPICS and any(isinstance(action, Announce) for case in cases for action in case.actions):
            allowed = "topics of other systems; what depends on a change is rendered by itself"
            reader.wrong(node, path, "makes changes of the engine's own events, and so goes in a circle", allowed)
        return Rule(
            name=name,
            topics=topics,
            cases=cases,
            retries=self._retries(given, path),
            constants=self._constants,
            sample=self._sample(given, path),
            discard_canaries=canaries is not False,
            delay_s=delay_s or 0.0,
            slots=Semaphore(slots or DEFAULT_CONCURRENCY),
        )

    @staticmethod
    def _given(given: Mapping[str, Node], key: str, path: str, read: Any) -> Any:
        return read(given[key], f"{path}.{key}") if key in given else None

    # -- topics -------------------------------------------------------------------------------------------------------

    def _topics_of(self, given: Mapping[str, Node], node: Node, path: str) -> frozenset[str]:
        reader = self._reader
        keys = [key for key in ("topic", "topics") if key in given]
        if not keys:
            reader.wrong(node, path, "names no topic", f"topic or topics: {self._known}")
            return frozenset()
        if len(keys) > 1:
            reader.wrong(given["topics"], f"{path}.topics", "stands beside topic", "one of topic and topics is allowed")
        found: set[str] = set()
        for member, where in self._members(given[keys[0]], f"{path}.{keys[0]}"):
            found |= self._named(member, where, must_exist=True)
        if "exclude_topics" in given:
            for member, where in self._members(given["exclude_topics"], f"{path}.exclude_topics"):
                found -= self._named(member, where, must_exist=False)
        return frozenset(found)

    def _members(self, node: Node, path: str) -> list[tuple[Node, str]]:
        members = [(member, f"{path}[{at}]") for at, member in enumerate(self._reader.members(node))]
        if not members:
            self._reader.wrong(node, path, "is empty", f"at least one topic: {self._known}")
        return members

    def _named(self, node: Node, path: str, *, must_exist: bool) -> set[str]:
        text = self._reader.text(node, path)
        if text is None:
            return set()
        if is_pattern(text):
            try:
                pattern = compile_pattern(text)
            except PatternInvalid as problem:
                self._reader.wrong(node, path, problem.what, problem.allowed)
                return set()
            found = {topic for topic in self._topics if pattern.search(topic)}
        else:
            found = {text} & self._topics if must_exist else {text}
        if must_exist and not found:
            self._reader.wrong(node, path, f'no source has the topic "{text}"', f"the topics are: {self._known}")
        return found

    @property
    def _known(self) -> str:
        return ", ".join(sorted(self._topics)) or "none"

    # -- cases --------------------------------------------------------------------------------------------------------

    def _cases(self, given: Mapping[str, Node], path: str, timeout_s: float) -> tuple[Case, ...]:
        reader = self._reader
        if "cases" not in given:
            only = {key: given[key] for key in _CASE_KEYS if key in given and key != "sample"}
            return (self._case(only, path, timeout_s),)
        for key in ("match", "match_not", "exec"):
            if key in given:
                reader.wrong(given[key], f"{path}.{key}", "stands beside cases", "it belongs into each of the cases")
        cases: list[Case] = []
        for at, member in enumerate(reader.members(given["cases"])):
            where = f"{path}.cases[{at}]"
            if not isinstance(member, MappingNode):
                reader.wrong(member, where, "is no case", f"a mapping with the keys {', '.join(_CASE_KEYS)}")
                continue
            cases.append(self._case(reader.entries(member, where, _CASE_KEYS, _REFUSED), where, timeout_s))
        if not cases:
            reader.wrong(given["cases"], f"{path}.cases", "is empty", "at least one case")
        return tuple(cases)

    def _case(self, given: Mapping[str, Node], path: str, timeout_s: float) -> Case:
        def condition(key: str) -> Condition | None:
            return compile_any(self._reader, given[key], f"{path}.{key}") if key in given else None

        actions: tuple[Action, ...] = ()
        if "exec" in given:
            where, node = f"{path}.exec", given["exec"]
            self._execs[path] = node
            actions = read_actions(self._reader, node, where, timeout_s=timeout_s, publishes=self._publishes)
        return Case(condition("match"), condition("match_not"), actions, self._sample(given, path))

    def _sample(self, given: Mapping[str, Node], path: str) -> Sample | None:
        if "sample" not in given:
            return None
        reader, node, where = self._reader, given["sample"], f"{path}.sample"
        entries = reader.entries(node, where, ("rate", "hash_template"))
        for key in ("rate", "hash_template"):
            if key not in entries:
                reader.wrong(node, f"{where}.{key}", "is missing", "sample has a rate and a hash_template")
                return None
        rate = reader.number(entries["rate"], f"{where}.rate", LOWEST_RATE, 1)
        key_template = compile_text(reader, entries["hash_template"], f"{where}.hash_template")
        return Sample(rate, key_template) if rate is not None else None

    # -- failures -----------------------------------------------------------------------------------------------------

    def _retries(self, given: Mapping[str, Node], path: str) -> Retries:
        reader = self._reader
        plain = Retries()
        limit = self._given(given, "retry_limit", path, lambda at, where: reader.count(at, where, 0, MAX_RETRIES))
        delay_s = self._given(given, "retry_delay", path, lambda at, where: reader.seconds(at, where, MAX_DELAY_S))
        factor = self._given(given, "retry_factor", path, lambda at, where: reader.number(at, where, 1, 100))
        return Retries(
            on=self._given(given, "retry_on", path, self._statuses) or plain.on,
            ignore=self._given(given, "ignore", path, self._statuses) or plain.ignore,
            limit=plain.limit if limit is None else limit,
            delay_s=plain.delay_s if delay_s is None else delay_s,
            factor=plain.factor if factor is None else factor,
        )

    def _statuses(self, node: Node, path: str) -> Statuses | None:
        reader = self._reader
        entries = reader.entries(
            node, path, ("status",), {"headers": "only the status is looked at", "body": "only the status is looked at"}
        )
        if "status" not in entries:
            reader.wrong(node, path, "names no status", "status: [50x, 404]")
            return None
        found: list[str] = []
        for at, member in enumerate(reader.members(entries["status"])):
            text = member.value if isinstance(member, ScalarNode) else ""
            if not _STATUS.fullmatch(text):
                allowed = "three digits, x for any of them: 404, 50x, 5xx"
                reader.wrong(member, f"{path}.status[{at}]", f'"{text}" is no status', allowed)
            else:
                found.append(text)
        return Statuses.of(*found)
