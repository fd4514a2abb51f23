"""The base of every typed error: plain Python, so that a domain can raise it without knowing gRPC.

    WellspringError
    ├── InvalidArgument      the request is wrong whatever the state; says which fields
    ├── OutOfRange           beyond the end of what is there
    ├── Unauthenticated      no identity, or one that proves nothing
    ├── PermissionDenied     a known identity that may not
    ├── NotFound             the thing named is not there
    ├── AlreadyExists        the thing to be created is there
    ├── Aborted              lost to a concurrent change: read again, then decide
    ├── FailedPrecondition   the state forbids it until somebody changes the state
    ├── ResourceExhausted    a quota is spent
    ├── Unavailable          nothing was done here and now: the same request may be sent again
    ├── DeadlineExceeded     the caller's time is over
    ├── Unimplemented        the contract names it, this server does not do it
    ├── DataLoss             stored data is damaged beyond repair
    └── Internal             a promise of ours is broken

A service draws its own tree under these in its ``domain/errors.py``. The message and the metadata of an error reach the
caller as they are: they are written for the caller and never carry a secret, a driver's text or anything of another
caller.
"""

import enum
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")


class Code(enum.IntEnum):
    """The canonical codes of ``google.rpc.Code``, with the numbers that gRPC puts on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class WellspringError(Exception):
    """An error that a caller can act on.

    ``message`` is one sentence for people; ``reason`` an UPPER_SNAKE_CASE word for programs (at most 63 characters, as
    in ``google.rpc.ErrorInfo``), the class's ``default_reason`` when not given; ``metadata`` names the values involved,
    as strings. Raises ValueError when the reason is not of that form.
    """

    code: ClassVar[Code] = Code.UNKNOWN
    default_reason: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str, *, reason: str | None = None, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = self.default_reason if reason is None else reason
        if _REASON.fullmatch(self.reason) is None:
            raise ValueError(f"an error's reason is UPPER_SNAKE_CASE, at most 63 characters: {self.reason!r}")
        self.metadata: dict[str, str] = dict(metadata) if metadata else {}


class InvalidArgument(WellspringError):
    """The request is wrong. ``violations`` are (path of the field, what is wrong and what is allowed)."""

    code = Code.INVALID_ARGUMENT
    default_reason = "INVALID_ARGUMENT"

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[tuple[str, str]] = (),
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.violations = tuple(violations)

    @classmethod
    def field(cls, path: str, what: str, *, reason: str | None = None) -> "InvalidArgument":
        """The error for one wrong field: ``field("records[3].key", "is empty; 1 to 1024 bytes are allowed")``."""
        return cls(f"{path}: {what}", violations=[(path, what)], reason=reason)


class OutOfRange(WellspringError):
    """The request goes beyond the end of what is there."""

    code = Code.OUT_OF_RANGE
    default_reason = "OUT_OF_RANGE"


class Unauthenticated(WellspringError):
    """The caller has no identity, or one that proves nothing."""

    code = Code.UNAUTHENTICATED
    default_reason = "UNAUTHENTICATED"


class PermissionDenied(WellspringError):
    """The caller is known and may not do this."""

    code = Code.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class NotFound(WellspringError):
    """The thing named is not there."""

    code = Code.NOT_FOUND
    default_reason = "NOT_FOUND"


class AlreadyExists(WellspringError):
    """The thing to be created is there."""

    code = Code.ALREADY_EXISTS
    default_reason = "ALREADY_EXISTS"


class Aborted(WellspringError):
    """The request lost to a concurrent change; read again, then decide."""

    code = Code.ABORTED
    default_reason = "ABORTED"


class FailedPrecondition(WellspringError):
    """The state of the service forbids the request until somebody changes that state."""

    code = Code.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"


class _Later(WellspringError):
    """Errors that say when to come back: ``retry_after_s`` seconds from now, or None when that is not known."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.retry_after_s = retry_after_s


class ResourceExhausted(_Later):
    """A quota is spent: another server would say the same."""

    code = Code.RESOURCE_EXHAUSTED
    default_reason = "QUOTA_EXCEEDED"


class Unavailable(_Later):
    """Nothing was done here and now: the same request may be sent again, to another server at best."""

    code = Code.UNAVAILABLE
    default_reason = "UNAVAILABLE"


class DeadlineExceeded(WellspringError):
    """The caller's time is over."""

    code = Code.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class Unimplemented(WellspringError):
    """The contract names it, this server does not do it; the message says why."""

    code = Code.UNIMPLEMENTED
    default_reason = "METHOD_NOT_IMPLEMENTED"


class DataLoss(WellspringError):
    """Stored data is damaged beyond repair."""

    code = Code.DATA_LOSS
    default_reason = "DATA_LOSS"


class Internal(WellspringError):
    """A promise of ours is broken. Its message reaches the caller: raise it only where there is something to say."""

    code = Code.INTERNAL
    default_reason = "INTERNAL"
