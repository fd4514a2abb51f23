"""The call that the running task serves, so that a log line anywhere below it can name it."""

from contextvars import ContextVar
from typing import Protocol

from libs.telemetry.trace import TraceContext


class CurrentCall(Protocol):
    """What logs and outgoing calls need to know of the call being served."""

    @property
    def method(self) -> str:
        """``package.Service/Method``."""

    @property
    def request_id(self) -> str:
        """The caller's name for the request, or one made here."""

    @property
    def trace(self) -> TraceContext:
        """The place in the trace that this call takes."""


current_call: ContextVar[CurrentCall | None] = ContextVar("wellspring_current_call", default=None)
"""Set by the pipeline in the task of each call; None outside of any call."""


def current_traceparent() -> str | None:
    """The W3C ``traceparent`` that a call made from here must carry, or None outside of any call."""
    call = current_call.get()
    return None if call is None else call.trace.traceparent()
