"""How an upload ended, where grpcio tells it twice.

A server may refuse a stream of requests while the client still writes. The write that fails then makes grpcio say
INTERNAL, "Internal error from Core", before or after what the server said (grpc/grpc#36066): what counts is the other.
"""

from collections.abc import Coroutine
from typing import Any

import grpc

_OF_THE_WRITE = "Internal error from Core"


class Ending:
    """The status that a call had first. To be made before anybody waits for the call."""

    def __init__(self, call: "grpc.aio.Call") -> None:
        self._first: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._note)

    def of(self, last: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """What the server said, of the first status and the one that the call was left with."""
        if self._first is None or self._first.code() is grpc.StatusCode.OK or last.details() != _OF_THE_WRITE:
            return last
        return self._first

    def _note(self, call: Any) -> None:
        self._first = grpc.aio.AioRpcError(
            _at_once(call.code()),
            _at_once(call.initial_metadata()),
            _at_once(call.trailing_metadata()),
            _at_once(call.details()),
            None,
        )


def _at_once(told: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine answers that has nothing to wait for: the status is there, and may be another one later."""
    try:
        told.send(None)
    except StopIteration as answer:
        return answer.value
    told.close()
    raise RuntimeError("a call that is done has no status")
