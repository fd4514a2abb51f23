"""CloudEvents 1.0 over HTTP (protocol binding for HTTP, version 1.0.2) into topics: POST /events/<topic>.

    binary mode        Ce-Id, Ce-Source, … and the data as the body      204 when the topic has it
    structured mode    application/cloudevents+json                      204
    batched mode       application/cloudevents-batch+json                204 when the topic has all of them
    400, 415           what is no CloudEvent; of a batch with one such event nothing is taken
    401, 404, 408, 413 no credential, no such topic here, the body does not come, too large
    503                the brokers do not have it now, or it is not known: send the same again

What comes is handed on as it is, the attributes in Kafka's mode. A repeated event is in the topic twice, with one id.
"""

import asyncio
import hmac
import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol
from urllib.parse import unquote

from aiohttp import web

from libs.errors.errors import InvalidArgument, WellspringError
from libs.kafka.consumer import Record
from services.propagation.kafka.cloudevents import STRUCTURED, NoCloudEvent, event_of
from services.propagation.rules.events import meta_text

BATCHED: Final = "application/cloudevents-batch"
MAX_BATCH: Final = 1_000
BODY_S: Final = 30.0
_PREFIX: Final = "ce-"
_RETRY: Final = {"Retry-After": "1"}


class Messages(Protocol):
    """What takes messages (libs.kafka.producer.Producer)."""

    async def send(
        self, topic: str, value: bytes, key: bytes | None = None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> object:
        """Returns when the message is durable. Raises WellspringError."""


class Message(NamedTuple):
    """On its way to a topic."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class NotSupported(Exception):
    """The text says which content type was given."""


class Receiver:
    """Takes requests for these topics; `credentials` empty: from whoever can connect."""

    def __init__(
        self,
        messages: Messages,
        topics: Collection[str],
        credentials: Collection[str],
        *,
        max_bytes: int,
        max_in_flight: int,
    ) -> None:
        self._messages = messages
        self._topics = frozenset(topics)
        self._credentials = [one.encode() for one in credentials]
        self._max_bytes = max_bytes
        self._room = max_in_flight
        self.taken = 0
        """Events in their topics, since the start."""
        self.refused = 0
        """Requests that were not taken."""

    def app(self) -> web.Application:
        """The application that serves it."""
        app = web.Application(client_max_size=self._max_bytes)
        app.router.add_post("/events/{topic}", self._post)
        return app

    async def _post(self, request: web.Request) -> web.Response:
        if self._room == 0:
            return self._refuse(503, "too many requests at once", _RETRY)
        self._room -= 1
        try:
            return await self._take(request)
        finally:
            self._room += 1

    async def _take(self, request: web.Request) -> web.Response:
        if not self._known(request.headers.get("Authorization", "")):
            return self._refuse(401, "a credential is needed: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
        topic = request.match_info["topic"]
        if topic not in self._topics:
            return self._refuse(
                404, f"no events are taken for this topic; they are for: {', '.join(sorted(self._topics))}"
            )
        try:
            async with asyncio.timeout(BODY_S):
                body = await request.read()
        except TimeoutError:
            return self._refuse(408, f"the body did not come in {BODY_S:g} s")
        except web.HTTPRequestEntityTooLarge:
            return self._refuse(413, f"at most {self._max_bytes:,} bytes are taken")
        try:
            found = messages_of(topic, request.headers, body, int(time.time() * 1000))
        except NoCloudEvent as wrong:
            return self._refuse(400, str(wrong))
        except NotSupported as wrong:
            return self._refuse(415, str(wrong))
        return await self._send(topic, found)

    async def _send(self, topic: str, found: Sequence[Message]) -> web.Response:
        sent = [self._messages.send(topic, one.value, one.key or None, one.headers) for one in found]
        for outcome in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(outcome, InvalidArgument):
                return self._refuse(413, outcome.message)
            if isinstance(outcome, WellspringError):
                return self._refuse(503, outcome.message, _RETRY)
            if isinstance(outcome, BaseException):
                raise outcome
        self.taken += len(found)
        return web.Response(status=204)

    def _known(self, authorization: str) -> bool:
        if not self._credentials:
            return True
        scheme, _, shown = authorization.partition(" ")
        given = shown.strip().encode(errors="replace")
        # Each of them, so that the time tells nothing.
        matches = [hmac.compare_digest(given, one) for one in self._credentials]
        return scheme.lower() == "bearer" and any(matches)

    def _refuse(self, status: int, what: str, headers: Mapping[str, str] | None = None) -> web.Response:
        self.refused += 1
        return web.json_response({"error": what}, status=status, headers=headers)


def messages_of(topic: str, headers: Mapping[str, str], body: bytes, now_ms: int) -> list[Message]:
    """What the request carries, checked. Raises NoCloudEvent, NotSupported."""
    content_type = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith(BATCHED):
        if kind != f"{BATCHED}+json":
            raise NotSupported(f'batches come as {BATCHED}+json, not as "{kind[:64]}"')
        return _batch(topic, body, now_ms)
    if kind.startswith(STRUCTURED):
        if kind != f"{STRUCTURED}+json":
            raise NotSupported(f'structured events come as {STRUCTURED}+json, not as "{kind[:64]}"')
        return [_checked(topic, body, (("content-type", content_type.encode()),), now_ms)]
    attributes = {name.lower(): value for name, value in headers.items() if name.lower().startswith(_PREFIX)}
    if f"{_PREFIX}specversion" not in attributes:
        raise NotSupported(f"no CloudEvent: neither Ce-Specversion nor {STRUCTURED}+json or {BATCHED}+json is there")
    carried = [(f"ce_{name.removeprefix(_PREFIX)}", unquote(value).encode()) for name, value in attributes.items()]
    if content_type:
        carried.append(("content-type", content_type.encode()))
    return [_checked(topic, body, tuple(carried), now_ms)]


def _batch(topic: str, body: bytes, now_ms: int) -> list[Message]:
    try:
        plain = json.loads(body)
    except (ValueError, RecursionError):
        raise NoCloudEvent("the batch is no JSON") from None
    if not isinstance(plain, list) or len(plain) > MAX_BATCH:
        raise NoCloudEvent(f"the batch is no list of at most {MAX_BATCH:,} events")
    headers = (("content-type", f"{STRUCTURED}+json".encode()),)
    found: list[Message] = []
    for at, one in enumerate(plain):
        value = json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        try:
            found.append(_checked(topic, value, headers, now_ms))
        except NoCloudEvent as wrong:
            raise NoCloudEvent(f"[{at}] {wrong}") from None
    return found


def _checked(topic: str, value: bytes, headers: tuple[tuple[str, bytes], ...], now_ms: int) -> Message:
    """The message, read as rules will read it."""
    event = event_of(Record(topic, 0, 0, None, value, now_ms, headers))
    return Message(meta_text(event, "uri").encode(errors="replace"), value, headers)
