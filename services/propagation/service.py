"""The three services of propagation, on one server over one engine."""

from collections.abc import Mapping, Sequence

from libs.paging.paging import PageTokens
from libs.purge.caches import Caches
from libs.rpc.policy import Policy
from libs.rpc.server import Server
from services.propagation.admin_servicer import AdminServicer
from services.propagation.canary_watch import CanaryWatch
from services.propagation.domain.engine import Engine
from services.propagation.homes.metrics import HomesCollector
from services.propagation.homes.taking import Taking
from services.propagation.intake.intake import Intake
from services.propagation.purging import Purging
from services.propagation.rules.caller import TargetsCaller
from services.propagation.rules.metrics import RulesCollector
from services.propagation.rules.rules import Rules
from services.propagation.servicer import PropagationServicer
from services.propagation.sharded.snapshots.snapshots import Snapshots
from services.propagation.targets.targets import Targets
from services.propagation.views.catalogue import Catalogue
from services.propagation.work_servicer import MAX_CAPACITY, WorkServicer
from wellspring.propagation.v1 import propagation_admin_pb2, propagation_pb2, work_pb2

PROPAGATION = propagation_pb2.DESCRIPTOR.services_by_name["Propagation"]
WORK = work_pb2.DESCRIPTOR.services_by_name["PropagationWork"]
ADMIN = propagation_admin_pb2.DESCRIPTOR.services_by_name["PropagationAdmin"]

_LONG_POLL_S = 60.0
"""A lease without a deadline may wait its 30 s and be answered."""


def add_services(server: Server, propagation: object, work: object, admin: object) -> None:
    """Adds the contract's services, done by these."""
    endless = Policy(endless=True)
    server.add_service(PROPAGATION, propagation, {"WatchChange": endless, "WatchChanges": endless})
    server.add_service(WORK, work, {"Lease": Policy(default_deadline_s=_LONG_POLL_S)})
    server.add_service(ADMIN, admin)


def add_propagation(
    server: Server,
    engine: Engine,
    catalogue: Catalogue,
    tokens: PageTokens,
    intake: Intake | None = None,
    max_batch: int = MAX_CAPACITY,
    caches: Caches | None = None,
    rules: Rules | None = None,
    homes: Sequence[Taking] = (),
    snapshots: Mapping[int, Snapshots] | None = None,
) -> None:
    """Adds the services, the engine's ticking, its rules, what is taken from other data centres and, if there is one,
    the intake to the server."""
    clock = engine.shard.clock
    rules = rules or Rules(engine, TargetsCaller(Targets()), clock, engine.shard.rng)
    canaries = CanaryWatch(engine)
    server.telemetry.registry.register(canaries)
    server.telemetry.registry.register(RulesCollector(rules))
    add_services(
        server,
        PropagationServicer(engine, tokens),
        WorkServicer(engine, catalogue, max_batch, server.stopping),
        AdminServicer(
            engine,
            catalogue,
            tokens,
            lambda: (intake.states() if intake is not None else []) + [home.state for home in homes],
            Purging(caches or Caches([]), lambda: catalogue.messages),
            lambda: rules,
            canaries,
            snapshots or {},
        ),
    )
    server.add_background("engine", engine.run)
    server.add_background("rules", rules.run)
    server.add_background("canaries", canaries.run)
    if intake is not None:
        server.add_background("intake", intake.run)
    server.telemetry.registry.register(HomesCollector(homes))
    for home in homes:
        server.add_background(f"home {home.datacentre}", home.run)
