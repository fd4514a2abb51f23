"""The echo service: what the server library is tested and measured with. It does what the request tells it to."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

from libs.errors import errors
from libs.rpc.call import Call
from libs.rpc.policy import Policy
from wellspring.bench.v1 import echo_pb2

SERVICE = echo_pb2.DESCRIPTOR.services_by_name["Echo"]
_MOST_PAYLOADS = 10_000


class Oops(Exception):
    """An exception that no part of the server expects."""


def validate_batch(request: echo_pb2.SayBatchRequest) -> None:
    """At most 10,000 payloads, none of them empty."""
    if len(request.payloads) > _MOST_PAYLOADS:
        raise errors.InvalidArgument.field("payloads", f"{len(request.payloads)} items; at most {_MOST_PAYLOADS}")
    for index, payload in enumerate(request.payloads):
        if not payload:
            raise errors.InvalidArgument.field(f"payloads[{index}]", "is empty; at least one byte is expected")


def validate_gather(request: echo_pb2.GatherRequest) -> None:
    """No empty payload."""
    if not request.payload:
        raise errors.InvalidArgument.field("payload", "is empty; at least one byte is expected")


POLICIES = {
    "SayBatch": Policy(validator=validate_batch),
    "Gather": Policy(validator=validate_gather),
    "Repeat": Policy(endless=True),
}


class EchoServicer:
    """Counts the work it does in ``worked``: what was refused before the work is not in it."""

    def __init__(self) -> None:
        self.worked = 0
        self.closed_streams = 0
        self.last_call: Call | None = None

    async def Say(self, request: echo_pb2.SayRequest, call: Call) -> echo_pb2.SayResponse:
        """Behaves as told, then answers the payload."""
        self.worked += 1
        self.last_call = call
        remaining_ms = int(call.remaining_s * 1000)
        if request.HasField("behaviour"):
            await _behave(request.behaviour)
        return echo_pb2.SayResponse(
            payload=request.payload,
            identity=call.identity,
            pid=os.getpid(),
            remaining_ms=remaining_ms,
            traceparent=call.trace.traceparent(),
        )

    async def SayBatch(self, request: echo_pb2.SayBatchRequest, call: Call) -> bytes:
        """Answers the payloads. The two messages are alike on the wire: the answer is serialised once, as bytes."""
        self.worked += 1
        return request.SerializeToString()

    async def Repeat(self, request: echo_pb2.RepeatRequest, call: Call) -> AsyncIterator[echo_pb2.RepeatResponse]:
        """Answers the payload again and again."""
        self.worked += 1
        index = 0
        try:
            while index < request.count or not request.count:
                if request.wait_ms:
                    await asyncio.sleep(request.wait_ms / 1000)
                yield echo_pb2.RepeatResponse(payload=request.payload, index=index)
                index += 1
            if request.fail_with:
                raise _error(request.fail_with)
        finally:
            self.closed_streams += 1

    async def Gather(self, requests: AsyncIterator[echo_pb2.GatherRequest], call: Call) -> echo_pb2.GatherResponse:
        """Adds up."""
        self.worked += 1
        answer = echo_pb2.GatherResponse()
        async for request in requests:
            answer.messages += 1
            answer.size_bytes += len(request.payload)
        return answer

    async def Converse(
        self, requests: AsyncIterator[echo_pb2.ConverseRequest], call: Call
    ) -> AsyncIterator[echo_pb2.ConverseResponse]:
        """Answers each."""
        self.worked += 1
        async for request in requests:
            yield echo_pb2.ConverseResponse(payload=request.payload)


async def _behave(behaviour: echo_pb2.Behaviour) -> None:
    if behaviour.crash:
        os._exit(9)
    if behaviour.block_ms:
        time.sleep(behaviour.block_ms / 1000)  # noqa: ASYNC251  (what it is told to do)
    if behaviour.wait_ms:
        await asyncio.sleep(behaviour.wait_ms / 1000)
    if behaviour.fail_with:
        raise _error(behaviour.fail_with)


def _error(name: str) -> Exception:
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, errors.WellspringError):
        return kind(f"asked to fail with {name}", reason="AS_ASKED", metadata={"kind": name})
    return Oops(f"the text of an exception nobody expected: {name}")
