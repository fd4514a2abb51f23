"""A service of the contract in a fleet: calls that name a shard are for it alone, others for all."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from libs.errors.errors import InvalidArgument
from libs.rpc.call import Call
from services.propagation.fleet.shards import SHARD_HEADER, Shards


class Addressed:
    """What is registered as the servicer: has the methods of the service that the `fleet`'s servicer has."""

    def __init__(self, descriptor: ServiceDescriptor, fleet: object, shards: Shards) -> None:
        self._descriptor = descriptor
        self._fleet = fleet
        self._shards = shards

    def __getattr__(self, name: str) -> Callable[[Message, Call], Any]:
        method = self._descriptor.methods_by_name.get(name)
        if method is None:
            raise AttributeError(name)
        whole = getattr(self._fleet, name)  # AttributeError: the service does not have it
        service, shards = self._descriptor.name, self._shards

        async def answer(request: Message, call: Call) -> Any:
            number = _number(call)
            if number is None:
                return await whole(request, call)
            return await shards.owned(number).ask(service, name, request, call)

        async def answers(request: Message, call: Call) -> AsyncIterator[Any]:
            number = _number(call)
            found = (
                whole(request, call) if number is None else shards.owned(number).stream(service, name, request, call)
            )
            async with aclosing(found):
                async for one in found:
                    yield one

        return answers if method.server_streaming else answer


def _number(call: Call) -> int | None:
    given = call.metadata.get(SHARD_HEADER)
    if given is None:
        return None
    if not isinstance(given, str) or not given.isdecimal() or len(given) > 4:
        raise InvalidArgument(f"the metadata {SHARD_HEADER} is no shard's number")
    return int(given)
