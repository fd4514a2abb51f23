"""All targets of a process, each made when it is first asked for; and one plain request for who needs no more."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from random import Random

from services.propagation.targets import wire
from services.propagation.targets.budget import RetryBudget
from services.propagation.targets.exchange import Exchange
from services.propagation.targets.pool import Pool
from services.propagation.targets.settings import TargetInvalid, TargetSettings, origin_of
from services.propagation.targets.target import Lane, OnEnd, Sender, Target
from services.propagation.targets.topic_sender import Messages, TopicSender

MakeSender = Callable[[TargetSettings, OnEnd], Sender]


class Targets:
    """By origin. `settings` are the configured ones; others have the defaults. `messages` takes what is published;
    None: nothing can be. Close it when done."""

    def __init__(
        self,
        settings: Mapping[str, TargetSettings] | None = None,
        budget: RetryBudget | None = None,
        *,
        make_sender: MakeSender = Pool,
        rng: Random | None = None,
        messages: Messages | None = None,
    ) -> None:
        self._settings = dict(settings or {})
        self._messages = messages
        self._make_sender = make_sender
        self._rng = rng or Random()  # noqa: S311  jitter
        self._targets: dict[str, Target] = {}
        self._held = False
        self.budget = budget or RetryBudget()

    def settings(self, origin: str) -> TargetSettings:
        """Of an origin, or of a gRPC address."""
        return self._settings.get(origin) or TargetSettings(origin)

    def of_url(self, url: str) -> Target:
        """The target of an http(s) URL. Raises TargetInvalid."""
        origin = origin_of(url)
        return self.get(origin, partial(self._make_sender, self.settings(origin)))

    def of_topic(self, topic: str) -> Target:
        """The target of a topic, which takes TopicExchanges only. Raises TargetInvalid where nothing takes messages."""
        if self._messages is None:
            raise TargetInvalid(f"the topic {topic}: no brokers are configured here; kafka of the executor names them")
        return self.get(f"kafka:{topic}", partial(TopicSender, self._messages, topic))

    def get(self, origin: str, make_sender: Callable[[OnEnd], Sender]) -> Target:
        """The target of that name; `make_sender` is for the first who asks."""
        target = self._targets.get(origin)
        if target is None:
            target = Target(origin, self.settings(origin).max_concurrency, make_sender, self._rng)
            target.hold(self._held)
            self._targets[origin] = target
        return target

    def hold(self, held: bool) -> None:
        """See Target.hold, for all of them."""
        self._held = held
        for target in self._targets.values():
            target.hold(held)

    def all(self) -> list[Target]:
        """Those that were asked for."""
        return list(self._targets.values())

    async def close(self) -> None:
        """Ends every connection."""
        for target in self._targets.values():
            await target.close()
        self._targets.clear()


async def ask(
    lane: Lane,
    settings: TargetSettings,
    method: str,
    path: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    *,
    timeout_s: float = 30.0,
    max_body_bytes: int = 8 << 20,
) -> Exchange:
    """One request through a lane, with its answer. Redirects are not followed. Raises RequestInvalid.

    The exchange has a `status`, or an `error` (exchange.py) with its `detail`; no exception is raised for either.
    """
    data = wire.request(wire.start_of(method), wire.check_target(path).encode(), wire.head_of(settings, headers), body)
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(_: Exchange) -> None:
        if not future.done():
            future.set_result(None)

    exchange = Exchange(
        data, ended, timeout_s=timeout_s, max_body_bytes=max_body_bytes, idempotent=method in wire.IDEMPOTENT
    )
    lane.submit(exchange)
    try:
        await future
    except asyncio.CancelledError:
        lane.cancel(exchange)
        raise
    return exchange
