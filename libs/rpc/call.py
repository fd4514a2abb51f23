"""One call as a servicer sees it: who asks, how long there is, and its place in logs and traces."""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol

import grpc

from libs.auth.identity import ANONYMOUS
from libs.telemetry.trace import TraceContext, below, parse_traceparent

_REQUEST_ID_KEY = "x-request-id"
_TRACEPARENT_KEY = "traceparent"
_LONGEST_REQUEST_ID = 64


class Context(Protocol):
    """What the pipeline uses of an engine's ``ServicerContext``; both engines have it."""

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """The properties of the verified peer."""

    def time_remaining(self) -> float | None:
        """Seconds left of the caller's deadline; None, or more than a lifetime, without one."""

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None:
        """The caller's metadata."""

    async def write(self, message: bytes) -> None:
        """Sends one message of a response stream; waits while the caller is behind."""

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str | bytes], ...]
    ) -> NoReturn:
        """Ends the call with an error and raises."""


class Call:
    """One call.

    ``method`` is ``package.Service/Method``; ``identity`` the caller's, ``anonymous`` where nobody is asked;
    ``deadline_at`` the end of the call on ``time.monotonic()``'s scale.
    """

    __slots__ = (
        "_context",
        "_metadata",
        "_request_id",
        "_trace",
        "admitted",
        "deadline_at",
        "ending",
        "identity",
        "method",
        "own_deadline",
        "span",
        "started",
    )

    def __init__(self, method: str, context: Context) -> None:
        self.method = method
        self.started = time.monotonic()
        self.identity = ANONYMOUS
        self.deadline_at = self.started
        self._context = context
        self._metadata: Mapping[str, str | bytes] | None = None
        self._request_id: str | None = None
        self._trace: TraceContext | None = None
        # The pipeline's own: whether the deadline is the server's to enforce, whether admission counted the call, its
        # span, and whether the server is ending it to stop.
        self.own_deadline = False
        self.admitted = False
        self.span: Any = None
        self.ending = False

    @property
    def remaining_s(self) -> float:
        """Seconds left for this call, never below 0: what is passed on, less a margin."""
        return max(0.0, self.deadline_at - time.monotonic())

    @property
    def metadata(self) -> Mapping[str, str | bytes]:
        """The caller's metadata by lower-case key, the last value of each; ``-bin`` keys hold bytes."""
        if self._metadata is None:
            self._metadata = dict(self._context.invocation_metadata() or ())
        return self._metadata

    @property
    def request_id(self) -> str:
        """The caller's ``x-request-id`` if it is printable and at most 64 characters, else one made here."""
        if self._request_id is None:
            given = self.metadata.get(_REQUEST_ID_KEY)
            usable = isinstance(given, str) and 0 < len(given) <= _LONGEST_REQUEST_ID and given.isprintable()
            self._request_id = str(given) if usable else secrets.token_hex(8)
        return self._request_id

    @property
    def trace(self) -> TraceContext:
        """This call's place in its trace: below the caller's, or the first of a trace of its own."""
        if self._trace is None:
            self._trace = below(self.trace_parent())
        return self._trace

    def trace_parent(self) -> TraceContext | None:
        """The caller's place in its trace, if it sent one."""
        return parse_traceparent(self.metadata.get(_TRACEPARENT_KEY))

    def take_trace(self, place: TraceContext, span: Any) -> None:
        """Gives the call the place and the span that the tracer made for it."""
        self._trace = place
        self.span = span
