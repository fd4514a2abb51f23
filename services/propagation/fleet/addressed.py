"""A service of the contract in a fleet: calls that name a shard are for it alone, others for all."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from libs.errors.errors import InvalidArgument
from libs.rpc.call import Call
from services.propagation.fleet.errors import ShardNotHere
from services.propagation.fleet.shards import SHARD_HEADER, Shards

_TOLD = re.compile(r"([0-9]{1,4})(?:/([0-9]{1,4}))?")


class Addressed:
    """What is registered as the servicer: has the methods of the service that the `fleet`'s servicer has."""

    def __init__(
        self, descriptor: ServiceDescriptor, fleet: Callable[[], object], shards: Callable[[], Shards]
    ) -> None:
        """Both are asked at each call: they are others once the number of shards has grown."""
        self._descriptor = descriptor
        self._fleet = fleet
        self._shards = shards

    def __getattr__(self, name: str) -> Callable[[Message, Call], Any]:
        method = self._descriptor.methods_by_name.get(name)
        if method is None:
            raise AttributeError(name)
        getattr(self._fleet(), name)  # AttributeError: the service does not have it
        service = self._descriptor.name

        async def answer(request: Message, call: Call) -> Any:
            shards = self._shards()
            number = _number(call, shards.count)
            if number is None:
                return await getattr(self._fleet(), name)(request, call)
            return await shards.owned(number).ask(service, name, request, call)

        async def answers(request: Message, call: Call) -> AsyncIterator[Any]:
            shards = self._shards()
            number = _number(call, shards.count)
            found = (
                getattr(self._fleet(), name)(request, call)
                if number is None
                else shards.owned(number).stream(service, name, request, call)
            )
            async with aclosing(found):
                async for one in found:
                    yield one

        return answers if method.server_streaming else answer


def _number(call: Call, shards: int) -> int | None:
    """The shard that a call is for. Raises ShardNotHere where it is one of more or fewer than there are here: one of
    the two engines has not heard yet that their number has grown."""
    given = call.metadata.get(SHARD_HEADER)
    if given is None:
        return None
    told = _TOLD.fullmatch(given) if isinstance(given, str) else None
    if told is None:
        raise InvalidArgument(f"the metadata {SHARD_HEADER} is no shard's number")
    if told[2] is not None and int(told[2]) != shards:
        raise ShardNotHere(f"the shards are {shards} here, and the call is for one of {told[2]}")
    return int(told[1])
