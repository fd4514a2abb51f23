"""Requests of rules over HTTP: by the process's targets, each with its limits, breaker and identity."""

import asyncio

from services.propagation.rules.performing import Answer
from services.propagation.rules.requests import Request
from services.propagation.targets.exchange import TOO_LARGE, WITHHELD
from services.propagation.targets.settings import TargetInvalid, origin_of
from services.propagation.targets.target import Lane
from services.propagation.targets.targets import Targets, ask
from services.propagation.targets.wire import RequestInvalid, path_of

MAX_ANSWER_BYTES = 1 << 20
"""Answers are not looked at; a longer one is cut off, and its status counts."""
MAX_ORIGINS = 1_000
"""Addresses may name hosts out of events, but not without end."""
_BUDGET_WAIT_S = 1.0
_INVALID = 400


class TargetsCaller:
    """`user_agent` is sent unless the target's own configuration names another."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._lanes: dict[str, Lane] = {}

    async def call(self, request: Request, *, again: bool) -> Answer:
        """See Caller."""
        now_s = asyncio.get_running_loop().time()
        if not again:
            self._targets.budget.first(1)
        elif not self._targets.budget.retry(now_s):
            return Answer(wait_s=_BUDGET_WAIT_S)
        try:
            origin = origin_of(request.url)
            lane = self._lane(origin, request.url)
            settings = self._targets.settings(origin)
            exchange = await ask(
                lane,
                settings,
                request.method,
                path_of(request.url),
                request.headers.items(),
                request.body or None,
                timeout_s=request.timeout_s,
                max_body_bytes=MAX_ANSWER_BYTES,
            )
        except (RequestInvalid, TargetInvalid) as problem:
            return Answer(_INVALID, str(problem))
        if exchange.error == WITHHELD:
            return Answer(error=exchange.detail, wait_s=max(exchange.retry_after_s, 0.1))
        if exchange.error is not None and exchange.error != TOO_LARGE:
            return Answer(0, f"{exchange.error}: {exchange.detail}")
        return Answer(exchange.status)

    def _lane(self, origin: str, url: str) -> Lane:
        lane = self._lanes.get(origin)
        if lane is None:
            if len(self._lanes) >= MAX_ORIGINS:
                raise TargetInvalid(f"{origin}: rules call more than {MAX_ORIGINS:,} hosts; at most so many are called")
            target = self._targets.of_url(url)
            lane = self._lanes[origin] = target.lane(target.limit.maximum)
        return lane

    async def close(self) -> None:
        """Ends the connections."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()
        await self._targets.close()
