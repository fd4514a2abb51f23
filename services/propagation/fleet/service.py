"""The three services of propagation on an engine of a fleet, and the one that engines have among themselves."""

import asyncio

from google.protobuf.descriptor import ServiceDescriptor

from libs.rpc.server import Server
from services.propagation.fleet.across import NoShardNamed
from services.propagation.fleet.addressed import Addressed
from services.propagation.fleet.admin import FleetAdmin
from services.propagation.fleet.metrics import FleetCollector
from services.propagation.fleet.propagation import FleetPropagation
from services.propagation.fleet.shards import Shards
from services.propagation.fleet.telling import SHARDS
from services.propagation.fleet.work import FleetWork
from services.propagation.service import ADMIN, PROPAGATION, WORK, add_services


class Front:
    """What an engine answers with: over the shards of the present generation."""

    def __init__(self, shards: Shards, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self._of: dict[str, object] = {}
        self.shards = shards
        self.turn_to(shards)

    def turn_to(self, shards: Shards) -> None:
        """From now on these are the shards; calls under way to those before are told to begin again."""
        self.shards.ended = self.shards is not shards
        self.shards = shards
        self._of = {
            PROPAGATION.name: FleetPropagation(shards),
            WORK.name: FleetWork(shards, self._stopping),
            ADMIN.name: FleetAdmin(shards),
            SHARDS.name: NoShardNamed(),
        }

    def service(self, descriptor: ServiceDescriptor) -> Addressed:
        """The servicer to register."""
        return Addressed(descriptor, lambda: self._of[descriptor.name], lambda: self.shards)


def add_fleet(server: Server, shards: Shards) -> Front:
    """Adds the services; whoever leads shards puts them into `shards.own`."""
    front = Front(shards, server.stopping)
    add_services(server, *(front.service(one) for one in (PROPAGATION, WORK, ADMIN)))
    server.add_service(SHARDS, front.service(SHARDS))
    server.telemetry.registry.register(FleetCollector(lambda: front.shards))
    return front
