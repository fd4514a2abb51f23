"""The changes of one namespace on their way to a topic, by one of the servers that share the store.

Where it stands is noted in the store: the cursor behind what the topic has acknowledged, and the server that publishes.
It speaks every few seconds; what nobody spoke of for 30 s another server takes over, and what fails is left to
whoever is next. So each change is published at
least once: what was sent within the last second before a server ended is sent again, and two servers that do not see
each other both send. The note is kept in the server's data centre, so that publishing goes on while another is away.
"""

import base64
import contextlib
import dataclasses
import json
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter

from libs.clock.clock import Clock
from libs.errors.errors import WellspringError
from libs.telemetry.logs import fields
from services.storage.domain.errors import ConsistencyUnavailable, ResumeTokenExpired
from services.storage.domain.namespace import Namespace
from services.storage.publishing.messages import Message, message_of
from services.storage.store.interface import Store

_log = logging.getLogger(__name__)

_KIND: Final = "publication"
_TOGETHER: Final = 500
"""Changes that are sent at once."""
_NOTED_S: Final = 1.0
_BEAT_S: Final = 5.0
"""How often it is noted where a publication stands: while it moves, and while it does not."""
STALE_US: Final = 30_000_000
_LOOK_S: Final = 2.0
"""How often a server that does not publish looks whether it should."""
_LONGEST_S: Final = 15.0
"""Between attempts that fail."""


class Topic(Protocol):
    """Where changes go."""

    async def send(self, messages: Sequence[Message]) -> None:
        """Returns when all have arrived, those of one key in this order, behind those of before. Raises WellspringError
        when some may not have, and the same are to be sent again."""
        ...

    async def close(self) -> None:
        """Lets go of the connections."""
        ...


class Stats:
    """Of all publications of a process, by namespace."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, what: str) -> Counter:
            return Counter(f"wellspring_storage_feed_{name}", what, ["namespace"], registry=registry)

        self.published = counter("published", "Changes that a topic has acknowledged.")
        self.failures = counter("publishing_failures", "Attempts to publish that failed, and are made again.")
        self.gaps = counter("publishing_gaps", "Times that changes were no longer kept when they were to be published.")


@dataclasses.dataclass(frozen=True, slots=True)
class Note:
    """``cursor``: behind what was published, of the namespace with this ``number``. ``owner``: the server that
    publishes, empty when none does; ``told_us`` when it last spoke."""

    number: int
    cursor: bytes
    owner: str
    told_us: int

    def encode(self) -> bytes:
        """The document of it."""
        return json.dumps({**dataclasses.asdict(self), "cursor": base64.b64encode(self.cursor).decode()}).encode()

    @classmethod
    def decode(cls, document: bytes) -> "Note":
        """What a document says."""
        words = json.loads(document)
        return cls(words["number"], base64.b64decode(words["cursor"]), words["owner"], words["told_us"])


class Publication:
    """Of the namespace that ``find`` finds (None while there is none) under ``name``; ``called`` is the topic's name.
    ``shared``: other servers have the same store."""

    def __init__(
        self,
        name: str,
        called: str,
        topic: Topic,
        store: Store,
        find: Callable[[], Namespace | None],
        clock: Clock,
        stats: Stats,
        *,
        shared: bool,
    ) -> None:
        self._name = name
        self._document = f"{name}/{called}"
        self._topic = topic
        self._store = store
        self._find = find
        self._clock = clock
        self._stats = stats
        self._shared = shared
        self._me = secrets.token_hex(8)
        self._noted_s = 0.0

    async def run(self) -> None:
        """Publishes for ever, or waits for its turn."""
        pause_s = _LOOK_S
        try:
            while True:
                try:
                    note = await self._taken()
                    if note is not None:
                        await self._publish(note)
                    pause_s = _LOOK_S
                except WellspringError as error:
                    self._stats.failures.labels(self._name).inc()
                    more = fields(namespace=self._name, reason=error.reason, problem=error.message)
                    _log.warning("changes are not published now", extra=more)
                    await self._leave()
                    pause_s = min(2 * pause_s, _LONGEST_S)
                await self._clock.sleep(pause_s)
        finally:
            await self._topic.close()

    async def _taken(self) -> Note | None:
        """Where it stands, once it is this server's turn; None while it is another's, or there is no namespace."""
        space = self._find()
        if space is None:
            return None
        body = await self._store.document(_KIND, self._document)
        note = Note(0, b"", "", 0) if body is None else Note.decode(body)
        theirs = self._shared and note.owner not in ("", self._me)
        if theirs and self._now_us() - note.told_us < STALE_US:
            return None
        try:
            start = await self._store.feed_start(space, from_beginning=True)
        except ConsistencyUnavailable:
            return None  # the feed is kept in another data centre, and published from there
        cursor = note.cursor if note.number == space.number else start
        return await self._note(Note(space.number, cursor, self._me, 0))

    async def _leave(self) -> None:
        """Lets another server try: that this one fails may be its own trouble."""
        with contextlib.suppress(WellspringError):
            body = await self._store.document(_KIND, self._document)
            note = None if body is None else Note.decode(body)
            if note is not None and note.owner == self._me:
                await self._note(dataclasses.replace(note, owner=""))

    async def _publish(self, note: Note) -> None:
        """Until it is another server's turn, or the namespace is gone. Raises what the store and the topic raise."""
        noted = note.cursor
        while (space := self._find()) is not None and space.number == note.number:
            note = await self._more(space, note)
            quiet_s = self._clock.monotonic() - self._noted_s
            if quiet_s >= (_BEAT_S if note.cursor == noted else _NOTED_S):
                if not await self._still_mine():
                    return
                note = await self._note(note)
                noted = note.cursor
            wait_s = (_BEAT_S if note.cursor == noted else _NOTED_S) - (self._clock.monotonic() - self._noted_s)
            await self._store.feed_grown(space, note.cursor, max(0.0, wait_s))

    async def _more(self, space: Namespace, note: Note) -> Note:
        """Behind some more changes, which the topic has then."""
        try:
            page = await self._store.feed(space, note.cursor, _TOGETHER)
        except ResumeTokenExpired:
            self._stats.gaps.labels(self._name).inc()
            what = "changes are no longer kept that were not published yet; it goes on with the oldest kept one"
            _log.critical(what, extra=fields(namespace=self._name))
            return dataclasses.replace(note, cursor=await self._store.feed_start(space, from_beginning=True))
        if page.events:
            await self._topic.send([message_of(event, space) for event in page.events])
            self._stats.published.labels(self._name).inc(len(page.events))
        return dataclasses.replace(note, cursor=page.cursor)

    async def _still_mine(self) -> bool:
        if not self._shared:
            return True
        body = await self._store.document(_KIND, self._document)
        return body is None or Note.decode(body).owner == self._me

    async def _note(self, note: Note) -> Note:
        note = dataclasses.replace(note, told_us=self._now_us())
        # Where it is read late, somebody begins at an earlier place: changes are sent again, and none is left out.
        await self._store.put_document(_KIND, self._document, note.encode(), near=True)
        self._noted_s = self._clock.monotonic()
        return note

    def _now_us(self) -> int:
        return self._clock.time_ns() // 1000
