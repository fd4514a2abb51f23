"""A view's publications: messages to topics for each page that changed, in the shape of the schema resource_change.

They go out after the page was stored and purged, so that who reads one finds a page at least as new as `min_version`.
Messages of one meta.uri have one key, and so one partition and one order. A message that is sent again because its
acknowledgement did not come has the same id; of a page that is rendered again it is another message.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from libs.errors.errors import InvalidArgument, WellspringError
from services.propagation.executor.pages import Item, RenderFailed, Withheld
from services.propagation.executor.templates import Template, rows, url_encoders
from services.propagation.targets.exchange import WITHHELD, Exchange
from services.propagation.targets.target import Target
from services.propagation.targets.targets import Targets
from services.propagation.targets.topic_sender import Message, TopicExchange
from wellspring.propagation.v1 import work_pb2

SCHEMA = "/resource_change/1.0.0"
TIMEOUT_S = 45.0
"""For a slice's messages: beyond the time that the producer itself waits for an acknowledgement, by default."""
_SPACE = uuid.UUID("0f2c4f5e-3d0b-4d0e-9d52-6b5a1f7f6f10")
_UNBOUNDED = 1 << 30

Problem = RenderFailed | Withheld


class ViewPublications:
    """The publications of one view, in their order. `now_ns` is the clock (Unix).

    Raises TargetInvalid for a view that cannot be served here.
    """

    def __init__(self, view: work_pb2.View, targets: Targets, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._publications = [_Publication(view, one, targets, now_ns) for one in view.publishes]

    @property
    def targets(self) -> list[Target]:
        """The topics."""
        return [one.target for one in self._publications]

    async def make(self, items: Sequence[Item], rendered_version: bytes, cause: str) -> dict[int, Problem]:
        """By the items' places, why not all messages of one are known to be in their topics. `cause` is the id of what
        brought the render about."""
        problems: dict[int, Problem] = {}
        for one in self._publications:
            left = [at for at in range(len(items)) if at not in problems]
            found = await one.make([items[at] for at in left], rendered_version, cause)
            problems |= {left[at]: problem for at, problem in found.items()}
        return problems

    async def close(self) -> None:
        """Gives the lanes back."""
        for one in self._publications:
            one.close()


class _Publication:
    def __init__(
        self, view: work_pb2.View, publish: work_pb2.Publish, targets: Targets, now_ns: Callable[[], int]
    ) -> None:
        encoders = url_encoders(view)
        self._topic = publish.topic
        self._tags = list(publish.tags)
        self._view = view.name
        self._uris = [Template(uri, encoders) for uri in publish.uris]
        self._xkeys = [Template(xkey, encoders) for xkey in publish.xkeys]
        self._now_ns = now_ns
        self.target = targets.of_topic(publish.topic)
        self._lane = self.target.lane(view.max_concurrency or _UNBOUNDED)

    async def make(self, items: Sequence[Item], rendered_version: bytes, cause: str) -> dict[int, Problem]:
        if not items:
            return {}
        messages: list[Message] = []
        owners: list[int] = []
        for at, found in enumerate(self._messages([item.resource for item in items], rendered_version, cause)):
            messages += found
            owners += [at] * len(found)
        exchange = await self._send(messages)
        if exchange.error == WITHHELD:
            return dict.fromkeys(range(len(items)), Withheld(exchange.retry_after_s))
        if exchange.error is not None and not exchange.problems:
            failed = RenderFailed(f"PUBLISH_{exchange.error}", f"the topic {self._topic}: {exchange.detail}")
            return dict.fromkeys(range(len(items)), failed)
        # Pages whose messages were acknowledged beside others that were not are done.
        return {owners[at]: _failed(error) for at, error in exchange.problems.items()}

    def close(self) -> None:
        self._lane.close()

    async def _send(self, messages: Sequence[Message]) -> TopicExchange:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def ended(_: Exchange) -> None:
            if not future.done():
                future.set_result(None)

        exchange = TopicExchange(messages, ended, TIMEOUT_S)
        self._lane.submit(exchange)
        try:
            await future
        except asyncio.CancelledError:
            self._lane.cancel(exchange)
            raise
        return exchange

    def _messages(self, resources: Sequence[str], version: bytes, cause: str) -> list[list[Message]]:
        """For each resource its messages."""
        dt = datetime.fromtimestamp(self._now_ns() / 1e9, UTC).isoformat(timespec="milliseconds")
        dt = dt.replace("+00:00", "Z")
        minimum = version.hex()

        def message(uri: str, xkeys: Sequence[str]) -> Message:
            meta = {
                "stream": self._topic,
                "uri": uri,
                "id": str(uuid.uuid5(_SPACE, f"{self._topic}\0{minimum}\0{bool(xkeys)}\0{uri}")),
                "dt": dt,
                "domain": urlsplit(uri).hostname or "unknown",
                "request_id": cause,
            }
            event: dict[str, object] = {"$schema": SCHEMA, "meta": meta, "tags": self._tags, "min_version": minimum}
            if xkeys:
                event["xkeys"] = list(xkeys)
            return Message(uri.encode(), json.dumps(event, separators=(",", ":")).encode())

        found: list[list[Message]] = []
        for resource, uris, xkeys in zip(
            resources, rows(self._uris, resources), rows(self._xkeys, resources), strict=True
        ):
            made = [message(uri, ()) for uri in uris]
            if xkeys:
                made.append(message(f"/view/{self._view}/{quote(resource, safe='')}", xkeys))
            found.append(made)
        return found


def _failed(error: WellspringError) -> RenderFailed:
    """A topic that is missing, or brokers that refuse the login, may be mended, and then the page goes out."""
    return RenderFailed(f"PUBLISH_{error.reason}", error.message, retryable=not isinstance(error, InvalidArgument))
