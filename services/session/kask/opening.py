"""From the configuration to a listening front, or a clear reason why not."""

import errno
import os
import ssl
from typing import Final

from aiohttp import web

from libs.auth.identity import ANONYMOUS
from libs.config import wiring
from libs.rpc.listen import Address, parse_address
from libs.rpc.options import StartError
from libs.rpc.server import Server
from services.session.domain.guesses import Guesses
from services.session.domain.opaque import METHODS, OpaqueValues
from services.session.domain.policy import Kind
from services.session.domain.quotas import Quotas
from services.session.domain.tools import Tools
from services.session.kask import files
from services.session.kask.callers import Callers, Rule
from services.session.kask.connection import HttpServer
from services.session.kask.front import Front, FrontOptions
from services.session.kask.health import Health
from wellspring.config.v1 import server_pb2
from wellspring.config.v1 import session_pb2 as config_pb

_LINE_BYTES: Final = 8190
"""Of the request line, and of a header. A key of 1,024 bytes, each of them escaped, has 3,072."""
_HEADERS: Final = 64
_LINGER_S: Final = 2.0
"""How long what is left of a refused body is read and thrown away, so that its sender gets to read the answer."""


async def open_front(
    server: Server, config: config_pb.SessionConfig, tools: Tools, guesses: Guesses, quotas: Quotas
) -> None:
    """Listens as `config.kask` says until the server ends; the ready line tells where, as "kask". Raises StartError."""
    kask = config.kask
    addresses = _addresses(kask)
    _check(kask, addresses, tools)
    callers, context = Callers(_rules(kask), files.credentials(kask)), files.tls_context(kask)
    options = FrontOptions(
        realm=kask.realm,
        base_path=kask.base_path,
        transfer_s=wiring.seconds(kask.transfer_timeout),
        max_in_flight=kask.max_in_flight,
        log_all=config.telemetry.log.calls == server_pb2.Log.CALLS_ALL,
    )
    health = Health(tools, kask.realm, server.stopping.is_set)
    front = Front(OpaqueValues(tools), callers, health, guesses, quotas, options, server.telemetry.registry)
    runner = await server.resources.add(
        "kask", lambda: listen(front, kask, addresses, context), close=web.ServerRunner.cleanup
    )
    server.ready_facts["kask"] = [str(Address(*address[:2])) for address in runner.addresses]
    server.add_background("kask files", files.Watch(kask, callers, context).run)


def _addresses(config: config_pb.KaskFront) -> list[Address]:
    try:
        return [parse_address(text) for text in config.listen]
    except StartError as error:
        raise StartError(str(error).replace("server.listen", "kask.listen", 1)) from None


def _rules(config: config_pb.KaskFront) -> list[Rule]:
    return [Rule(caller.identity, frozenset(caller.methods)) for caller in config.callers]


def _check(config: config_pb.KaskFront, addresses: list[Address], tools: Tools) -> None:
    realm = tools.realms.get(config.realm)
    if realm is None or realm.policy.kind is not Kind.OPAQUE:
        what = "is not there" if realm is None else "is not opaque"
        raise StartError(
            f"kask.realm: the realm {config.realm!r} {what}; one of kind opaque is expected: name it in realms, or make"
            " it by CreateRealm"
        )
    for at, caller in enumerate(config.callers):
        if unknown := sorted(set(caller.methods) - {*METHODS, "*"}):
            raise StartError(f"kask.callers[{at}].methods: {unknown[0]!r}; {', '.join(METHODS)} and * are allowed")
        if "*" in caller.identity[:-1]:
            raise StartError(f"kask.callers[{at}].identity: a * is allowed as the last character only")
    anonymous = [at for at, caller in enumerate(config.callers) if Rule(caller.identity, frozenset()).is_for(ANONYMOUS)]
    for address in addresses:
        if address.loopback:
            continue
        if not config.HasField("tls"):
            raise StartError(
                f"kask.listen: {address} is open to other machines, which needs kask.tls; without listen on 127.0.0.1"
            )
        if anonymous:
            raise StartError(
                f"kask.callers[{anonymous[0]}].identity: anonymous callers are allowed on loopback, not at {address}"
            )


async def listen(
    front: Front, config: config_pb.KaskFront, addresses: list[Address], context: ssl.SSLContext | None
) -> web.ServerRunner:
    """The front, listening. Raises StartError for an address that cannot be listened on."""
    server = HttpServer(
        front,
        max_connections=config.max_connections,
        transfer_s=wiring.seconds(config.transfer_timeout),
        refused=front.refused,
        access_log=None,
        keepalive_timeout=wiring.seconds(config.idle_timeout),
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
        max_headers=_HEADERS,
        lingering_time=_LINGER_S,
        auto_decompress=False,
    )
    runner = web.ServerRunner(server, shutdown_timeout=wiring.seconds(config.drain_grace))
    await runner.setup()
    for address in addresses:
        try:
            await web.TCPSite(runner, address.host, address.port, ssl_context=context).start()
        except OSError as error:
            await runner.cleanup()
            why = "it is in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
            raise StartError(f"kask.listen: cannot listen on {address}: {why}") from None
    return runner
