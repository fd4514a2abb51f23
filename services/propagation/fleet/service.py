"""The three services of propagation on an engine of a fleet."""

from libs.rpc.policy import Policy
from libs.rpc.server import Server
from services.propagation.fleet.addressed import Addressed
from services.propagation.fleet.admin import FleetAdmin
from services.propagation.fleet.metrics import FleetCollector
from services.propagation.fleet.propagation import FleetPropagation
from services.propagation.fleet.shards import Shards
from services.propagation.fleet.work import FleetWork
from wellspring.propagation.v1 import propagation_admin_pb2, propagation_pb2, work_pb2

_LONG_POLL_S = 60.0


def add_fleet(server: Server, shards: Shards) -> None:
    """Adds the services; whoever leads shards puts them into `shards.own`."""
    propagation = propagation_pb2.DESCRIPTOR.services_by_name["Propagation"]
    server.add_service(
        propagation,
        Addressed(propagation, FleetPropagation(shards), shards),
        {"WatchChange": Policy(endless=True), "WatchChanges": Policy(endless=True)},
    )
    work = work_pb2.DESCRIPTOR.services_by_name["PropagationWork"]
    server.add_service(
        work,
        Addressed(work, FleetWork(shards, server.stopping), shards),
        {"Lease": Policy(default_deadline_s=_LONG_POLL_S)},
    )
    admin = propagation_admin_pb2.DESCRIPTOR.services_by_name["PropagationAdmin"]
    server.add_service(admin, Addressed(admin, FleetAdmin(shards), shards))
    server.telemetry.registry.register(FleetCollector(shards))
