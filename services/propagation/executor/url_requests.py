"""HTTP requests made of a template, many at once through one lane of a target: for renderers and for hooks."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from services.propagation.executor.pages import RenderFailed, Withheld
from services.propagation.executor.templates import Encoder, Template
from services.propagation.targets import wire
from services.propagation.targets.exchange import TIMEOUT, TOO_LARGE, UNREACHABLE, WITHHELD, Exchange
from services.propagation.targets.settings import TargetInvalid
from services.propagation.targets.target import Lane
from services.propagation.targets.targets import Targets

_RETRYABLE = frozenset({408, 425, 429})
MOST_RETRY_AFTER_S = 3_600.0


class UrlTemplate:
    """Requests of one method to one origin. The origin itself holds no fields.

    Raises TargetInvalid or RequestInvalid for what no request can be made of.
    """

    def __init__(
        self,
        targets: Targets,
        method: str,
        url: str,
        headers: Iterable[tuple[str, str]],
        encoders: Mapping[str, Encoder],
    ) -> None:
        scheme, _, rest = url.partition("://")
        authority = rest.partition("/")[0].partition("?")[0]
        if "{" in authority:
            raise TargetInvalid(f"{url!r} has a field in its host; fields are allowed in the path and the query")
        self.target = targets.of_url(f"{scheme}://{authority}")
        path = rest[len(authority) :]
        path = path if path.startswith("/") else f"/{path}"
        # What is filled in is percent-encoded; what stands around it is checked once, here.
        self._path = Template(wire.check_target(path.partition("#")[0]), encoders)
        self._start = wire.start_of(method).decode("ascii")
        self._head = wire.head_of(targets.settings(self.target.origin), headers)
        self._has_body = method in ("POST", "PUT", "PATCH")
        self.idempotent = method in wire.IDEMPOTENT

    def requests(
        self, resources: Sequence[str], more: bytes = b"", bodies: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """The bytes for each resource. `more` are further header lines, as they are on the wire."""
        head = (self._head + more).decode("ascii")
        if bodies is None and not self._has_body:
            return [one.encode("ascii") for one in self._path.fill(resources, self._start, wire.end_of(head))]
        starts = self._path.fill(resources, self._start)
        return [
            f"{start}{wire.end_of(head, len(body))}".encode("ascii") + body
            for start, body in zip(starts, bodies or [b""] * len(resources), strict=True)
        ]


async def exchange_all(
    lane: Lane,
    requests: Sequence[bytes],
    *,
    timeout_s: float,
    max_body_bytes: int,
    idempotent: bool,
    first: bool = False,
) -> list[Exchange]:
    """Each request with its answer, in order. Cancelled: none of them is under way any more. `first`: before whatever
    waits in the lane.

    One future for all of them: a task for each would cost more than the request.
    """
    if not requests:
        return []
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = len(requests)

    def ended(_: Exchange) -> None:
        nonlocal left
        left -= 1
        if not left and not future.done():
            future.set_result(None)

    exchanges = [Exchange(data, ended, timeout_s, max_body_bytes, idempotent) for data in requests]
    lane.submit(*exchanges, first=first)
    try:
        await future
    except asyncio.CancelledError:
        for exchange in exchanges:
            lane.cancel(exchange)
        raise
    return exchanges


def problem_of(exchange: Exchange, who: str) -> RenderFailed | Withheld | None:
    """Why the answer is none, or not good (2xx is); `who` begins the reason: RENDERER, CALL."""
    error = exchange.error
    if error is None:
        status = exchange.status
        if 200 <= status < 300:
            return None
        retryable = status >= 500 or status in _RETRYABLE
        return RenderFailed(
            f"{who}_HTTP_{status}",
            f"{_origin(exchange)} answered {status}",
            retryable=retryable,
            retry_after_s=_retry_after_s(exchange) if retryable else 0.0,
        )
    if error == WITHHELD:
        return Withheld(exchange.retry_after_s)
    if error == TIMEOUT:
        return RenderFailed(f"{who}_TIMEOUT" if who != "RENDERER" else "RENDER_TIMEOUT", exchange.detail)
    if error == TOO_LARGE:
        return RenderFailed("OUTPUT_TOO_LARGE", exchange.detail, retryable=False)
    reason = "UNREACHABLE" if error == UNREACHABLE else error
    return RenderFailed(f"{who}_{reason}", f"{_origin(exchange)}: {exchange.detail}")


def _origin(exchange: Exchange) -> str:
    return exchange.lane.target.origin if isinstance(exchange.lane, Lane) else ""


def _retry_after_s(exchange: Exchange) -> float:
    """RFC 9110, 10.2.3, in seconds; a date is taken for nothing, since clocks only inform."""
    given = exchange.header(b"retry-after")
    if given is None or not given.isdigit():
        return 0.0
    return min(MOST_RETRY_AFTER_S, float(given[:6]))
