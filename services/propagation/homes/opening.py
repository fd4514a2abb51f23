"""From the configuration: the engines of other data centres, and the store that their results come through."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from random import Random

from libs.config.clients import caller, open_channels
from libs.errors.errors import InvalidArgument
from services.propagation.domain.engine import Engine
from services.propagation.homes.replica import GrpcReplica
from services.propagation.homes.taking import Taking
from services.propagation.views.catalogue import Catalogue
from wellspring.config.v1 import propagation_pb2
from wellspring_client.propagation import Propagation


def places(config: propagation_pb2.PropagationConfig) -> tuple[str, ...]:
    """The data centres that a view's home may be: the engine's own first. Raises InvalidArgument."""
    homes = [home.datacentre for home in config.homes]
    if homes and not config.datacentre:
        raise InvalidArgument.field("datacentre", "is missing: beside homes the engine says where it is itself")
    if homes and not config.HasField("storage"):
        raise InvalidArgument.field("storage", "is missing: results of other data centres are taken from it")
    found = (config.datacentre, *homes)
    if len(set(found)) < len(found):
        raise InvalidArgument.field("homes", "name a data centre twice, or the engine's own")
    return found


class Homes:
    """All of them, with their connections."""

    def __init__(self, homes: Sequence[Taking], stack: AsyncExitStack) -> None:
        self.homes = homes
        self._stack = stack

    @classmethod
    async def open(
        cls, config: propagation_pb2.PropagationConfig, engine: Engine, catalogue: Catalogue, rng: Random
    ) -> "Homes":
        """Connects nothing yet: a home that is away is waited for."""
        async with AsyncExitStack() as stack:
            store = await open_channels(config.storage)
            stack.push_async_callback(store.close)
            replica = GrpcReplica(caller(store, config.storage))
            homes = []
            for home in config.homes:
                channels = await open_channels(home.propagation)
                stack.push_async_callback(channels.close)
                client = Propagation(caller(channels, home.propagation))
                homes.append(Taking(home.datacentre, engine, catalogue, client, replica, rng))
            return cls(homes, stack.pop_all())

    async def close(self) -> None:
        """Ends the connections."""
        await self._stack.aclose()
