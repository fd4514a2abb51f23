"""The stages around the work of a call: identity, allow-list, deadline, admission before it; metrics, log, trace after
it.

One Gate stands before each method. ``open`` runs the stages before the work, in their order, and raises the typed error
of the first that refuses; ``close`` runs those after it. ``libs/rpc/pipeline.py`` puts validation and work between the
two.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from libs.auth.identity import identify
from libs.auth.rules import AllowList
from libs.errors.errors import Code, DeadlineExceeded, PermissionDenied, Unauthenticated, Unavailable, WellspringError
from libs.rpc.call import Call, Context
from libs.rpc.errors import Failure, to_failure, unknown_failure
from libs.rpc.options import ServerOptions
from libs.rpc.policy import Policy
from libs.telemetry.context import current_call
from libs.telemetry.logs import fields
from libs.telemetry.telemetry import Telemetry

log = logging.getLogger("libs.rpc")

_NO_DEADLINE_S = 10 * 365 * 86400.0
"""A remaining time beyond this is an engine's way to say that the caller set no deadline."""

_OURS = frozenset({Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS})
"""Codes that are this server's fault: always in the log."""


class Slots:
    """Room for calls under way, shared by the methods of a server that count together."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class Draining:
    """Whether the server takes no more calls, for an engine that cannot say so itself."""

    __slots__ = ("refusing",)

    def __init__(self) -> None:
        self.refusing = False


class Shared(NamedTuple):
    """What the gates of one server share. ``secure`` says whether some listener verifies client certificates."""

    options: ServerOptions
    allow_list: AllowList
    secure: bool
    telemetry: Telemetry
    unary: Slots
    streams: Slots
    draining: Draining

    def under_way(self) -> int:
        """How many calls were admitted and have not ended."""
        return self.unary.used + self.streams.used

    def refuse_new(self) -> None:
        """From now on new calls get UNAVAILABLE."""
        self.draining.refusing = True


def draining_error() -> Unavailable:
    """What a caller hears of a server that stops."""
    return Unavailable(
        "the server is stopping; go to another, or come back later", retry_after_s=0.1, reason="SERVER_DRAINING"
    )


class Gate:
    """The stages of one method (``package.Service/Method``); ``stream`` when either side of it streams."""

    def __init__(self, method: str, policy: Policy, shared: Shared, *, stream: bool) -> None:
        options = shared.options
        self.method = method
        self.policy = policy
        self.endless: set[tuple[Call, asyncio.Task[object]]] = set()
        self.ending = False
        self._shared = shared
        self._allow_list = shared.allow_list if shared.allow_list.configured else None
        self._identify: Callable[[Context], str] | None = identify if shared.secure else None
        default_s = options.default_stream_deadline_s if policy.endless else options.default_deadline_s
        self._default_s = default_s if policy.default_deadline_s is None else policy.default_deadline_s
        self._longest_s = options.max_deadline_s
        self._pushback = options.engine != "native"
        self._slots = shared.streams if stream else shared.unary
        self._own_slots = Slots(self._slots.limit if policy.max_in_flight is None else policy.max_in_flight)
        self._metrics = shared.telemetry.rpc.of(method)
        self._tracing = shared.telemetry.tracing if shared.telemetry.tracing.enabled else None
        self._log_calls = shared.telemetry.options.log.calls
        self._slow_s = shared.telemetry.options.log.slow_call_s

    def open(self, call: Call, context: Context) -> None:
        """The stages before the work. Raises the error of the stage that refuses the call."""
        current_call.set(call)
        if self._tracing is not None:
            self._begin_trace(call)
        if self._identify is not None:
            call.identity = self._identify(context)
        if self._allow_list is not None and not self._allow_list.allows(call.identity, self.method):
            raise self._denied(call)
        self._bound(call, context.time_remaining())
        self._admit(call)

    def close(self, call: Call, code: Code) -> None:
        """The stages after the work; also gives back the call's place. Called once for every call, whatever its end."""
        if call.admitted:
            self._slots.used -= 1
            self._own_slots.used -= 1
            self._metrics.in_flight -= 1
        seconds = time.monotonic() - call.started
        self._metrics.done(code, seconds)
        if code or seconds > self._slow_s or self._log_calls == "all":
            self._log(call, code, seconds)
        if call.span is not None and self._tracing is not None:
            self._tracing.end(call.span, code)
        # The task of the call holds this context, and the call its task: a cycle that only the collector would end.
        current_call.set(None)

    def explain(self, call: Call, error: Exception) -> Failure:
        """What the caller is told of ``error``: a typed one as it is, any other as INTERNAL with an incident."""
        if isinstance(error, WellspringError):
            return to_failure(error, pushback=self._pushback)
        failure, incident = unknown_failure()
        log.error("a call failed unexpectedly", extra=fields(incident=incident), exc_info=error)
        return failure

    def cancelled_code(self, call: Call) -> Code:
        """The code of a call that its caller ended, or whose caller's deadline passed, while it was under way."""
        return Code.DEADLINE_EXCEEDED if time.monotonic() >= call.deadline_at - 0.002 else Code.CANCELLED

    def late(self) -> DeadlineExceeded:
        """The error of a call whose time is over."""
        return DeadlineExceeded("the deadline of the call has passed", metadata={"method": self.method})

    def _begin_trace(self, call: Call) -> None:
        assert self._tracing is not None
        span = self._tracing.begin(self.method, call.trace_parent())
        if span is not None:
            call.take_trace(self._tracing.place(span), span)

    def _denied(self, call: Call) -> WellspringError:
        if call.identity == "anonymous":
            return Unauthenticated(
                f"{self.method} needs a client certificate; this connection brought none", reason="IDENTITY_REQUIRED"
            )
        return PermissionDenied(
            f"{call.identity} may not call {self.method}: no rule of the allow-list names it",
            reason="METHOD_NOT_ALLOWED",
            metadata={"identity": call.identity, "method": self.method},
        )

    def _bound(self, call: Call, remaining_s: float | None) -> None:
        """Gives the call its deadline: the caller's, cut to the longest allowed, or the default."""
        if remaining_s is None or remaining_s > _NO_DEADLINE_S:
            remaining_s = self._default_s
            call.own_deadline = True
        elif remaining_s <= 0:
            raise self.late()
        if remaining_s > self._longest_s:
            remaining_s = self._longest_s
            call.own_deadline = True
        call.deadline_at = call.started + remaining_s

    def _admit(self, call: Call) -> None:
        if self._shared.draining.refusing:
            raise draining_error()
        slots, own = self._slots, self._own_slots
        if slots.used >= slots.limit or own.used >= own.limit:
            raise Unavailable(
                "the server is at its limit of calls under way; try another, or this one later",
                retry_after_s=self._shared.options.overload_retry_s,
                reason="SERVER_OVERLOADED",
                metadata={"method": self.method},
            )
        slots.used += 1
        own.used += 1
        self._metrics.in_flight += 1
        call.admitted = True

    def _log(self, call: Call, code: Code, seconds: float) -> None:
        ours = code in _OURS
        if not ours and seconds <= self._slow_s and self._log_calls == "problems":
            return
        level = logging.ERROR if ours else logging.WARNING if seconds > self._slow_s else logging.INFO
        log.log(level, "call", extra=fields(code=code.name, seconds=round(seconds, 6), identity=call.identity))
