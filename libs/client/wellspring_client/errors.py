"""Everything that a call can raise.

    WellspringError                .message, .reason, .metadata, .code, .retry_after_s
    ├── InvalidRequest             the request is wrong: .violations names the fields
    │   ├── ValueTooLarge          use upload
    │   ├── ClockDrift             this machine's clock is off
    │   └── PageTokenInvalid       list from the beginning
    ├── Unauthenticated            no identity, or one that proves nothing
    │   ├── SessionInvalid         the token names no live session: log in again
    │   └── AssertionInvalid       the assertion does not hold: present another one
    ├── PermissionDenied           this identity may not
    ├── NotFound
    ├── AlreadyExists
    │   └── TokenReused            an idempotency token came with another body
    ├── Aborted                    lost to a concurrent change: read again, decide again
    │   ├── ConditionFailed        .etag is the current one
    │   └── LeaseLost              the lease is somebody else's now
    ├── FailedPrecondition         the state forbids it
    ├── QuotaExceeded              a quota is spent
    ├── OutOfRange
    │   └── ResumeTokenExpired     the feed no longer reaches back so far: scan, then watch anew
    ├── Unavailable                nobody answered, after retries: the same call may be made again
    ├── DeadlineExceeded           no answer in time: the outcome is unknown, the same call may be made again
    ├── Unimplemented              this server does not do it (yet)
    ├── DataLoss                   stored data is damaged
    ├── ServerFault                the server's own failure: .metadata["incident"] finds it in its log
    └── Cancelled

and, without a server: ValueError for arguments that no request can be made of, ClientClosed after ``close``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

_DETAILS_KEY = "grpc-status-details-bin"


class WellspringError(Exception):
    """A call that failed. The message says what is wrong and, where that is known, what to do.

    ``reason`` is a word for programs ("CONDITION_FAILED"), ``metadata`` the values involved, ``code`` the canonical
    code (``google.rpc.Code``), ``retry_after_s`` when the server wants to be asked again (None: it did not say).
    """

    code: int = grpc.StatusCode.UNKNOWN.value[0]

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[tuple[str, str]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.message} ({self.reason})" if self.reason else self.message


class InvalidRequest(WellspringError):
    """The request is wrong whatever the state. ``violations`` are (path of the field, what is allowed)."""

    code = 3


class ValueTooLarge(InvalidRequest):
    """The value is too large for a request: upload it."""


class ClockDrift(InvalidRequest):
    """The time of the write is too far from the server's clock: this machine's clock is off."""


class PageTokenInvalid(InvalidRequest):
    """The page token is forged, expired or of another request: list from the beginning."""


class Unauthenticated(WellspringError):
    """No identity, or one that proves nothing."""

    code = 16


class SessionInvalid(Unauthenticated):
    """The token names no live session; whether it ever did is not told. Log in again."""


class AssertionInvalid(Unauthenticated):
    """The assertion does not hold here, or its session was ended: ask for another one."""


class PermissionDenied(WellspringError):
    """The caller is known and may not do this."""

    code = 7


class NotFound(WellspringError):
    """What was named is not there, or not for this caller."""

    code = 5


class AlreadyExists(WellspringError):
    """What was to be created is there."""

    code = 6


class TokenReused(AlreadyExists):
    """An idempotency token came a second time, with another body."""


class Aborted(WellspringError):
    """Lost to a concurrent change: read again, then decide again."""

    code = 10


class ConditionFailed(Aborted):
    """A condition of a write does not hold."""

    @property
    def etag(self) -> str:
        """The current etag; empty when nothing is there."""
        return self.metadata.get("etag", "")


class LeaseLost(Aborted):
    """The lease has ended or is another executor's: drop the batch."""


class FailedPrecondition(WellspringError):
    """The state forbids it until somebody changes the state."""

    code = 9


class QuotaExceeded(WellspringError):
    """A quota is spent; another server would say the same."""

    code = 8


class OutOfRange(WellspringError):
    """Beyond the end of what is there."""

    code = 11


class ResumeTokenExpired(OutOfRange):
    """The feed no longer reaches back so far: scan, then watch anew."""


class Unavailable(WellspringError):
    """Nobody answered, after retries. The same call may be made again: with its token it is the same write."""

    code = 14


class DeadlineExceeded(WellspringError):
    """No answer in time: the outcome is unknown. Make the same call again: with its token it is the same write."""

    code = 4


class Unimplemented(WellspringError):
    """The contract names the method, this server does not have it."""

    code = 12


class DataLoss(WellspringError):
    """Stored data is damaged."""

    code = 15


class ServerFault(WellspringError):
    """The server broke a promise of its own."""

    code = 13


class Cancelled(WellspringError):
    """The call was cancelled."""

    code = 1


class ClientClosed(RuntimeError):
    """The client was closed."""


_BY_CODE: dict[int, type[WellspringError]] = {
    kind.code: kind
    for kind in (
        InvalidRequest,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        AlreadyExists,
        Aborted,
        FailedPrecondition,
        QuotaExceeded,
        OutOfRange,
        Unavailable,
        DeadlineExceeded,
        Unimplemented,
        DataLoss,
        ServerFault,
        Cancelled,
    )
}
_BY_REASON: dict[str, type[WellspringError]] = {
    "VALUE_TOO_LARGE": ValueTooLarge,
    "CLOCK_DRIFT": ClockDrift,
    "PAGE_TOKEN_INVALID": PageTokenInvalid,
    "PAGE_TOKEN_EXPIRED": PageTokenInvalid,
    "SESSION_INVALID": SessionInvalid,
    "TOKEN_REUSED": TokenReused,
    "CONDITION_FAILED": ConditionFailed,
    "VERSION_MISMATCH": ConditionFailed,
    "FENCED": LeaseLost,
    "LEASE_EXPIRED": LeaseLost,
    "RESUME_TOKEN_EXPIRED": ResumeTokenExpired,
}


def from_status(status: status_pb2.Status) -> WellspringError:
    """The error that a ``google.rpc.Status`` stands for: of a call, or of one answer in a batch."""
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, bad, retry):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    by_code = _BY_CODE.get(status.code, WellspringError)
    kind = _BY_REASON.get(info.reason, by_code)
    error = (kind if issubclass(kind, by_code) else by_code)(
        status.message,
        reason=info.reason,
        metadata=dict(info.metadata),
        violations=[(violation.field, violation.description) for violation in bad.field_violations],
        retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
    )
    error.code = status.code
    return error


def from_call(error: grpc.aio.AioRpcError, target: str) -> WellspringError:
    """The error of a failed call to ``target``, an address for people."""
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == _DETAILS_KEY:
            status = status_pb2.Status()
            try:
                status.ParseFromString(value)
            except ValueError:
                break  # a proxy's own trailers; code and text below are enough
            return from_status(status)
    code: int = error.code().value[0]
    text = error.details() or ""
    if code == Cancelled.code:
        code = Unavailable.code  # nobody here did: the server reset the call while it stopped
    if code == Unavailable.code:
        text = f"no server answers at {target}: is it running, and is the address right? ({text})"
    elif code == DeadlineExceeded.code:
        text = f"{target} did not answer in time; the outcome is unknown, the same call may be made again"
    made = _BY_CODE.get(code, WellspringError)(text)
    made.code = code
    return made
