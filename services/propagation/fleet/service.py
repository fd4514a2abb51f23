"""The three services of propagation on an engine of a fleet, and the one that engines have among themselves."""

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


def add_fleet(server: Server, shards: Shards) -> None:
    """Adds the services; whoever leads shards puts them into `shards.own`."""
    add_services(
        server,
        Addressed(PROPAGATION, FleetPropagation(shards), shards),
        Addressed(WORK, FleetWork(shards, server.stopping), shards),
        Addressed(ADMIN, FleetAdmin(shards), shards),
    )
    server.add_service(SHARDS, Addressed(SHARDS, NoShardNamed(), shards))
    server.telemetry.registry.register(FleetCollector(shards))
