"""From the configuration: the engines of other data centres, and the store that their results come through."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from libs.config.clients import caller, open_channels
from libs.errors.errors import InvalidArgument
from services.propagation.domain.engine import Engine
from services.propagation.homes.replica import GrpcReplica, Replica
from services.propagation.homes.taking import Begin, Taking
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
    """The connections to all of them."""

    def __init__(self, clients: Mapping[str, Propagation], replica: Replica, stack: AsyncExitStack) -> None:
        self._clients = clients
        self._replica = replica
        self._stack = stack

    @classmethod
    async def open(cls, config: propagation_pb2.PropagationConfig) -> "Homes":
        """Connects nothing yet: a home that is away is waited for."""
        async with AsyncExitStack() as stack:
            clients: dict[str, Propagation] = {}
            store = await open_channels(config.storage)
            stack.push_async_callback(store.close)
            replica = GrpcReplica(caller(store, config.storage))
            for home in config.homes:
                channels = await open_channels(home.propagation)
                stack.push_async_callback(channels.close)
                clients[home.datacentre] = Propagation(caller(channels, home.propagation))
            return cls(clients, replica, stack.pop_all())

    def takings(self, engine: Engine, catalogue: Catalogue, begin: Begin | None = None) -> Sequence[Taking]:
        """What takes from each; see Taking."""
        return [
            Taking(name, engine, catalogue, client, self._replica, engine.shard.rng, begin)
            for name, client in self._clients.items()
        ]

    async def close(self) -> None:
        """Ends the connections."""
        await self._stack.aclose()
