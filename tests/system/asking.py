"""Calls that must be refused: what they raise is plain, and as exact as it should be."""

import itertools
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.system.refusing import plain
from wellspring_client.errors import InvalidRequest, WellspringError


def refused(kind: type[WellspringError], call: Callable[..., Any], *arguments: Any, **named: Any) -> WellspringError:
    """The error of a call that must fail in this way (of a stream: its first answer); everything it says is plain."""
    with pytest.raises(kind) as caught:
        answer = call(*arguments, **named)
        if hasattr(answer, "__next__"):
            next(answer)
    error = caught.value
    for text in (error.message, *error.metadata.values(), *itertools.chain(*error.violations)):
        if text:
            plain(text)
    assert error.reason, f"an error without a reason: {error!r}"
    return error


def refused_field(field: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> WellspringError:
    """As `refused`, for an invalid request that names this field."""
    error = refused(InvalidRequest, call, *arguments, **named)
    assert field in [path for path, _ in error.violations], error.violations
    return error


def _as_is(message: bytes) -> bytes:
    return message


def raw(address: str, method: str, request: bytes) -> bytes:
    """A call with these bytes as its request: the answer's bytes. Raises grpc.RpcError."""
    with grpc.insecure_channel(address) as channel:
        answer: bytes = channel.unary_unary(f"/wellspring.{method}", _as_is, _as_is)(request, timeout=120)
    return answer
