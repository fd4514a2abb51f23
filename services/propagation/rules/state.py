"""What is kept of the rules in the engine's store: their revisions, how far each has come, and its dead letters.

Kinds of records:

* `rules`: revision (8 bytes) → the file's text, and where each topic ended when it was put;
* `rule_at`: rule NUL topic → the cursor: everything up to `at` is done, and what is listed in `done` above it;
* `rule_letter`: rule NUL topic NUL position (8 bytes) → a dead letter.
"""

from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass, field

from services.propagation.domain.change import dump, load
from services.propagation.domain.engine import Engine
from services.propagation.domain.sequence import decode, encode
from services.propagation.rules.events import Event, meta_text

RULES = "rules"
CURSOR = "rule_at"
LETTER = "rule_letter"
MAX_DETAIL_CHARS = 500


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of the rules: events after `starts[topic]` run under it, until the next one's."""

    number: int
    text: str
    starts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to `at` all is done; `done` are positions above it that are done too."""

    at: int
    done: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Letter:
    """An event whose request failed for good. `replay` says that it is to be tried again."""

    rule: str
    topic: str
    position: int
    reason: str
    detail: str
    attempts: int
    first_ns: int
    last_ns: int
    root: str = ""
    event: Event = field(default_factory=dict)
    replay: bool = False

    @property
    def key(self) -> bytes:
        """Of its record."""
        return f"{self.rule}\0{self.topic}\0".encode() + encode(self.position)

    @property
    def resource(self) -> str:
        """What the event is about."""
        named = self.event.get("resource")
        return named if isinstance(named, str) and named else meta_text(self.event, "uri")

    def pack(self) -> bytes:
        """The record's value."""
        return dump(
            {
                "reason": self.reason,
                "detail": self.detail[:MAX_DETAIL_CHARS],
                "attempts": self.attempts,
                "first_ns": self.first_ns,
                "last_ns": self.last_ns,
                "root": self.root,
                "event": self.event,
                "replay": self.replay,
            }
        )

    @classmethod
    def unpack(cls, key: bytes, value: bytes) -> "Letter":
        """Of a record."""
        rule, topic, position = key.split(b"\0", 2)
        return cls(rule.decode(), topic.decode(), decode(position), **load(value))


class State:
    """Reads and writes the records. Writing raises what the engine raises while it takes no writes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def revisions(self) -> list[Revision]:
        """The revisions that are kept, oldest first."""
        found: list[Revision] = []
        for key, value in self._engine.shard.store.records(RULES):
            plain = load(value)
            found.append(Revision(decode(key), plain["text"], plain["starts"]))
        return found

    def put_revision(self, revision: Revision) -> Awaitable[None]:
        """Keeps a revision."""
        step = self._engine.shard.step()
        plain = dump({"text": revision.text, "starts": dict(revision.starts)})
        step.commit.put_record(RULES, encode(revision.number), plain)
        return step.write()

    def forget_revisions(self, numbers: list[int], lanes: list[tuple[str, str]]) -> Awaitable[None]:
        """Forgets revisions that no event runs under any more, and the cursors of rules that went with them."""
        step = self._engine.shard.step()
        for number in numbers:
            step.commit.delete_record(RULES, encode(number))
        for rule, topic in lanes:
            step.commit.delete_record(CURSOR, _lane(rule, topic))
        return step.write()

    def cursor(self, rule: str, topic: str) -> Cursor | None:
        """How far the rule has come in the topic; None: it has not begun."""
        value = self._engine.shard.store.get_record(CURSOR, _lane(rule, topic))
        if value is None:
            return None
        plain = load(value)
        return Cursor(plain["at"], frozenset(plain["done"]))

    def cursors(self) -> Iterator[tuple[str, str]]:
        """(rule, topic) of every cursor."""
        for key, _ in self._engine.shard.store.records(CURSOR):
            rule, topic = key.decode().split("\0")
            yield rule, topic

    def put_cursor(self, rule: str, topic: str, cursor: Cursor) -> Awaitable[None]:
        """Moves the cursor."""
        step = self._engine.shard.step()
        value = dump({"at": cursor.at, "done": sorted(cursor.done)})
        step.commit.put_record(CURSOR, _lane(rule, topic), value)
        return step.write()

    # -- dead letters -------------------------------------------------------------------------------------------------

    def letters(self, rule: str = "", after: bytes = b"") -> Iterator[Letter]:
        """Dead letters of a rule, or of all rules, after a key, in the order of their keys."""
        prefix = f"{rule}\0".encode() if rule else b""
        end = f"{rule}\1".encode() if rule else None
        start = max(prefix, after + b"\0") if after else prefix
        for key, value in self._engine.shard.store.records(LETTER, start=start, end=end):
            yield Letter.unpack(key, value)

    def letter(self, key: bytes) -> Letter | None:
        """One of them."""
        value = self._engine.shard.store.get_record(LETTER, key)
        return Letter.unpack(key, value) if value is not None else None

    def put_letters(self, letters: list[Letter]) -> Awaitable[None]:
        """Keeps dead letters, in place of what was kept of the same events."""
        step = self._engine.shard.step()
        for letter in letters:
            step.commit.put_record(LETTER, letter.key, letter.pack())
        return step.write()

    def drop_letters(self, letters: list[Letter]) -> Awaitable[None]:
        """Forgets dead letters."""
        step = self._engine.shard.step()
        for letter in letters:
            step.commit.delete_record(LETTER, letter.key)
        return step.write()


def _lane(rule: str, topic: str) -> bytes:
    return f"{rule}\0{topic}".encode()
