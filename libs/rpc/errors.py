"""The one place where a typed error becomes a gRPC status with its details."""

import secrets
import string
from typing import Final, NamedTuple
from urllib.parse import quote

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from libs.errors.errors import Code, InvalidArgument, ResourceExhausted, Unavailable, WellspringError

DOMAIN: Final = "wellspring"
DETAILS_KEY: Final = "grpc-status-details-bin"
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
"""Trailer that tells a gRPC client how long to wait before it retries (gRFC A6)."""

_PLAIN = "".join(set(string.printable) - set("%\t\n\r\x0b\x0c"))
"""Characters that gRPC sends as they are in ``grpc-message``; the others are percent-encoded."""
_INTERNAL_TEXT = "internal error; the operator finds it in the log by the incident"
_TEXT_BYTES = 1536
"""Of a message in the ``grpc-message`` trailer, percent-encoded. Clients refuse the trailers of a call above 8 KiB,
gRPC's default, and would see no error at all: the message, which goes along twice, and the details stay below it."""
_STATUS_BYTES = 4096
_VALUE_BYTES = 512

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
    """The rich status of ``error``: also what batches put beside each of their items.

    It has at most 4 KiB: long texts are cut and say so, the last of many wrong fields are left out.
    """
    status = status_pb2.Status(code=int(error.code), message=_cut(error.message, _TEXT_BYTES))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in error.metadata.items():
        if status.ByteSize() + info.ByteSize() < _STATUS_BYTES - 2 * _VALUE_BYTES:
            info.metadata[_cut(key, 63)] = _cut(value, _VALUE_BYTES)
    _add(status, info)
    if isinstance(error, Unavailable | ResourceExhausted) and error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        _add(status, error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, InvalidArgument) and error.violations:
        _add(status, _bad_request(error, _STATUS_BYTES - status.ByteSize() - 64))
    return status


def _bad_request(error: InvalidArgument, room: int) -> error_details_pb2.BadRequest:
    """The wrong fields, as many as fit into ``room`` bytes."""
    wrong = error_details_pb2.BadRequest()
    for path, what in error.violations:
        wrong.field_violations.add(field=_cut(path, _VALUE_BYTES), description=_cut(what, _VALUE_BYTES))
        if wrong.ByteSize() > room:
            del wrong.field_violations[-1]
            break
    return wrong


def _cut(text: str, most: int) -> str:
    """``text``, or its beginning and an ellipsis when it takes more than ``most`` bytes in a trailer."""
    # What is not Unicode (a file's name from the operating system) could not be sent at all.
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) * 12 <= most or len(quote(text, safe=_PLAIN)) <= most:
        return text
    encoded = 0
    for kept, character in enumerate(text):
        encoded += len(quote(character, safe=_PLAIN))
        if encoded > most - 9:
            return text[:kept] + "…"
    return text


def to_failure(error: WellspringError, *, pushback: bool = True) -> Failure:
    """``error`` as a code, a text and trailers; an Unavailable with a time also pushes the client's retry back by it.

    Without ``pushback`` that last trailer is left out: the native engine refuses to send it.
    """
    status = to_status(error)
    trailers: tuple[tuple[str, str | bytes], ...] = ((DETAILS_KEY, status.SerializeToString()),)
    if pushback and isinstance(error, Unavailable) and error.retry_after_s is not None:
        trailers += ((PUSHBACK_KEY, str(max(1, round(error.retry_after_s * 1000)))),)
    return Failure(error.code, status.message, trailers)


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
