"""The session server's process: configuration in, calls answered.

python -m services.session.main --config session.yaml
"""

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

from libs.clock.clock import SystemClock
from libs.config import wiring
from libs.config.command import from_command_line
from libs.config.mistakes import ConfigError
from libs.errors.errors import WellspringError
from libs.rpc.options import StartError
from libs.rpc.policy import Policy
from libs.rpc.run import run
from libs.rpc.server import Server
from services.session.admin_servicer import SessionAdminServicer
from services.session.audit.opening import Audit, open_audit
from services.session.backends import is_shared, open_backend, open_cache
from services.session.canary import Canary, open_realm
from services.session.crypto import assertions
from services.session.crypto.keyring import Keyring
from services.session.crypto.randomness import Pool
from services.session.domain.guesses import Guesses, GuessLimits
from services.session.domain.opaque_sweeping import OpaqueSweeper
from services.session.domain.quotas import Limits, Quotas
from services.session.domain.rekeying import Rekeying
from services.session.domain.sweeping import Sweeper
from services.session.domain.tools import Tools
from services.session.events import ToldEvents
from services.session.fellows import Fellowship
from services.session.incarnation import Incarnation
from services.session.kask.opening import open_front
from services.session.keyring_file import File, Notes
from services.session.opening import check_supported, make_tools
from services.session.refreshing import Listener, Refresher
from services.session.servicer import SessionsServicer
from wellspring.config.v1 import session_pb2 as config_pb
from wellspring.session.v1 import session_admin_pb2, session_pb2


def main() -> int:
    """Serves until a signal says stop; returns the exit status."""
    config = from_command_line("session", config_pb.SessionConfig)

    async def build(server: Server) -> None:
        try:
            await _build(server, config)
        except (WellspringError, ConfigError) as error:
            raise StartError(error.message) from None

    return run(
        build,
        wiring.server_options("session", config.server),
        auth=wiring.auth_options(config.auth),
        telemetry=wiring.telemetry_options(config.telemetry),
    )


async def _build(server: Server, config: config_pb.SessionConfig) -> None:
    check_supported(config)
    clock = SystemClock()
    events = ToldEvents(server.telemetry.registry)
    backend = await open_backend(server, config, clock)
    store = backend.store
    cache = await open_cache(server, config)
    front = cache.front if cache is not None else backend.front
    tools = await make_tools(config, store, clock, Pool(os.urandom), events, shared=is_shared(config), front=front)
    if cache is not None and tools.shared:
        server.add_background("cache hints", cache.hints(tools.keyring, tools.realms, clock).run)
    if tools.shared:
        origins = store.origins
        server.add_background("refresher", Refresher(tools.realms, clock, origins, backend.following).run)
        if origins is not None:
            for name in origins.others:
                listener = Listener(tools.realms, clock, origins, name, events, backend.following)
                server.add_background(f"listener {name}", listener.run)
    if config.audit.file or config.audit.HasField("kafka"):
        audit = await server.resources.add(
            "audit", lambda: _audit(server, config, tools.keyring), close=Audit.close, health=Audit.check
        )
        events.audit = audit.file
        server.add_background("audit", audit.file.run)
        if audit.forwarder is not None:
            server.add_background("audit topic", audit.forwarder.run)
    if not tools.shared:
        incarnation = await server.resources.add(
            "incarnation", lambda: _incarnation(config, tools), close=Incarnation.close, health=Incarnation.check
        )
        tools = replace(tools, incarnation=incarnation.name)
        server.add_background("incarnation", incarnation.run)
    gone_after_us = int(wiring.seconds(config.gone_after) * 1e6)
    pages = wiring.page_tokens(
        config.page_tokens, clock, lambda: tools.keyring.active("pairwise").derive("page tokens")
    )
    fellowship = await _fellowship(server, config, tools)
    rekeying = Rekeying(tools, File(Path(config.keyring_file)), Notes(store), fellowship)
    limits = config.guess_limit
    guesses = Guesses(
        GuessLimits(
            limits.failures_per_caller_per_minute, limits.failures_per_address_per_minute, limits.max_addresses
        ),
        clock.monotonic,
        os.urandom,
    )
    quotas = Quotas(
        Limits(
            config.quotas.calls_per_caller_per_second,
            config.quotas.anonymous_creates_per_second,
            config.quotas.anonymous_creates_per_address_per_minute,
            config.quotas.anonymous_creates_in_flight,
            limits.max_addresses,
        ),
        clock.monotonic,
        os.urandom,
    )
    sessions = SessionsServicer(
        tools,
        pages,
        guesses,
        quotas,
        failure_floor_s=wiring.seconds(config.failure_floor),
        gone_after_us=gone_after_us,
        warm_sessions=config.warm_sessions,
    )
    server.add_service(
        session_pb2.DESCRIPTOR.services_by_name["Sessions"],
        sessions,
        {"WatchRevocations": Policy(endless=True)},
        depends_on=["store"],
    )
    server.add_service(
        session_admin_pb2.DESCRIPTOR.services_by_name["SessionAdmin"],
        SessionAdminServicer(tools, pages, rekeying),
        depends_on=["store"],
    )
    interval_us = int(wiring.seconds(config.sweep_interval) * 1e6)
    server.add_background("sweeper", Sweeper(tools, interval_us, gone_after_us).run)
    server.add_background("opaque sweeper", OpaqueSweeper(tools, interval_us).run)
    if config.HasField("canary"):
        await open_realm(tools.realms, config.canary.realm)
        canary = Canary(
            tools,
            pages,
            server.telemetry.registry,
            realm=config.canary.realm,
            interval_s=wiring.seconds(config.canary.interval),
            bound_s=wiring.seconds(config.canary.bound),
        )
        server.add_background("canary", canary.run)
    if config.HasField("kask"):
        await open_front(server, config, tools, guesses, quotas)


async def _fellowship(server: Server, config: config_pb.SessionConfig, tools: Tools) -> Fellowship | None:
    """What this server knows of the others; None where there are none."""
    rows = tools.store.fellows
    if rows is None:
        return None
    name = f"{socket.gethostname()}/{os.getpid()}/{os.urandom(4).hex()}"
    file, notes = File(Path(config.keyring_file)), Notes(tools.store)
    now_us = tools.clock.now_us
    fellowship = Fellowship(rows, name, tools.keyring, tools.vault, file, notes, tools.clock.clock, now_us)
    await fellowship.join()
    rows.may_seal = fellowship.holds
    rows.opens = lambda number: tools.keyring.find("seal", number) is not None
    tools.realms.check_keys = fellowship.check
    server.add_background("keys", fellowship.run)
    return fellowship


async def _incarnation(config: config_pb.SessionConfig, tools: Tools) -> Incarnation:
    path = Path(config.incarnation_file or f"{config.keyring_file}.incarnation")
    incarnation = Incarnation(tools.store, path, tools.clock.clock)
    await incarnation.open(tools.realms, tools.events)
    return incarnation


async def _audit(server: Server, config: config_pb.SessionConfig, keyring: Keyring) -> Audit:
    def sign(text: bytes) -> tuple[str, bytes]:
        return assertions.sign_bytes(keyring, text)

    return await open_audit(config.audit, config.datacentre, sign, server.telemetry.registry)


if __name__ == "__main__":
    sys.exit(main())
