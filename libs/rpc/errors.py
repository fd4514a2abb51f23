"""The one place where a typed error becomes a gRPC status, with ``ErrorInfo`` and, where they apply, the wrong fields
and the time to come back."""

import secrets
from typing import Final, NamedTuple

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from libs.errors.errors import Code, InvalidArgument, ResourceExhausted, Unavailable, WellspringError

DOMAIN: Final = "wellspring"
DETAILS_KEY: Final = "grpc-status-details-bin"
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
"""Trailer that tells a gRPC client how long to wait before it retries (gRFC A6)."""

_INTERNAL_TEXT = "internal error; the operator finds it in the log by the incident"
_MOST_VIOLATIONS = 64
"""Wrong fields named in one answer: trailers are limited to 8 KiB by default, and nobody mends more at once."""
_MOST_METADATA = 1024
"""Characters of one metadata value, for the same reason."""

_STATUS_CODES: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


class Failure(NamedTuple):
    """A failed call as gRPC wants it: ``context.abort(*failure.arguments())``."""

    code: Code
    message: str
    trailers: tuple[tuple[str, str | bytes], ...]

    def arguments(self) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
        """The arguments of ``abort``."""
        return _STATUS_CODES[self.code], self.message, self.trailers


def to_status(error: WellspringError) -> status_pb2.Status:
    """The rich status of ``error``: also what batches put beside each of their items."""
    status = status_pb2.Status(code=int(error.code), message=error.message)
    metadata = {key: value[:_MOST_METADATA] for key, value in error.metadata.items()}
    _add(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if isinstance(error, InvalidArgument) and error.violations:
        violation = error_details_pb2.BadRequest.FieldViolation
        fields = [violation(field=path, description=what) for path, what in error.violations[:_MOST_VIOLATIONS]]
        _add(status, error_details_pb2.BadRequest(field_violations=fields))
    if isinstance(error, Unavailable | ResourceExhausted) and error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        _add(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def to_failure(error: WellspringError) -> Failure:
    """``error`` as a code, a text and trailers; an Unavailable with a time also pushes the client's retry back by
    it."""
    trailers: tuple[tuple[str, str | bytes], ...] = ((DETAILS_KEY, to_status(error).SerializeToString()),)
    if isinstance(error, Unavailable) and error.retry_after_s is not None:
        trailers += ((PUSHBACK_KEY, str(max(1, round(error.retry_after_s * 1000)))),)
    return Failure(error.code, error.message, trailers)


def unknown_failure() -> tuple[Failure, str]:
    """What a caller sees of an exception that nobody expected: one fixed text and an incident to ask about.

    Returns the failure and the incident (12 hexadecimal digits), which the log line of the exception must carry.
    """
    incident = secrets.token_hex(6)
    status = status_pb2.Status(code=int(Code.INTERNAL), message=_INTERNAL_TEXT)
    _add(status, error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"incident": incident}))
    return Failure(Code.INTERNAL, _INTERNAL_TEXT, ((DETAILS_KEY, status.SerializeToString()),)), incident


def _add(status: status_pb2.Status, detail: message.Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)
