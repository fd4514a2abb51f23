"""From a service's ``build`` function to a running process: signals, worker processes, the ready line, the exit status.

    async def build(server: Server) -> None:
        store = await server.resources.add("store", lambda: open_store(path), close=Store.close, health=Store.check)
        server.add_service(storage_pb2.DESCRIPTOR.services_by_name["Storage"], Servicer(store))

    if __name__ == "__main__":
        sys.exit(run(build, ServerOptions(service="storage")))

SIGTERM and SIGINT drain; a second one ends the process at once, which loses nothing that was acknowledged.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import uvloop

from libs.auth.options import AuthOptions
from libs.rpc.listen import parse_address, try_address
from libs.rpc.options import ServerOptions, StartError, Stopped
from libs.rpc.process import announce, die_with_parent
from libs.rpc.server import Server, check_access
from libs.rpc.supervisor import EXIT_START, Supervisor, Worker, own_command
from libs.rpc.tls import check_files
from libs.telemetry.logs import Logs
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

Build = Callable[[Server], Awaitable[None]]
"""Registers resources, services and background work with a server that has not started."""


def run(
    build: Build,
    options: ServerOptions,
    *,
    auth: AuthOptions | None = None,
    telemetry: TelemetryOptions | None = None,
) -> int:
    """Serves until a signal says stop; returns the exit status: 0, 1 after a failure, 78 when it could not start.

    When the server takes calls, one line of JSON goes to standard output and to ``options.ready_file``:
    ``{"ready":true,"service":"echo","pid":1,"listen":["127.0.0.1:8001"],"metrics":[],"workers":[]}``, with the ports
    chosen; ``workers`` holds the pids of worker processes and is empty when this process serves alone. Everything else
    goes to standard error.

    ``build`` may raise StartError: its message is all that the operator sees. One that waits for long raises Stopped
    when ``server.stopping`` is set meanwhile.
    """
    parent = os.getppid()
    worker = Worker.from_environment()
    telemetry = telemetry or TelemetryOptions()
    try:
        if worker is not None:
            die_with_parent(worker.parent)
            options = replace(options, listen=worker.listen)
        elif options.die_with_parent:
            die_with_parent(parent)
        options.check()
        addresses = [parse_address(text) for text in options.listen]
        check_access(options, auth or AuthOptions(), addresses)
        if options.tls is not None:
            check_files(options.tls)
        for address in addresses:
            # Found out before anything is built: another process there most likely has the data open, too.
            if worker is None and (address.port or address.path):
                try_address(address)
        if worker is None and options.workers > 1:
            return uvloop.run(_supervise(options, telemetry))
        return uvloop.run(_serve(build, options, auth, telemetry, worker))
    except StartError as error:
        sys.stderr.write(f"{options.service}: {error}\n")
        return EXIT_START


async def _serve(
    build: Build,
    options: ServerOptions,
    auth: AuthOptions | None,
    telemetry_options: TelemetryOptions,
    worker: Worker | None,
) -> int:
    try:
        telemetry = Telemetry(telemetry_options, options.service, worker=0 if worker is None else worker.index)
    except ValueError as error:
        raise StartError(str(error)) from None
    server = Server(options, telemetry, auth=auth, share_ports=worker is not None)
    _on_signals(server.stopping, ignore_interrupt=worker is not None)
    try:
        await telemetry.start()
    except OSError as error:
        where, why = telemetry_options.metrics_listen, os.strerror(error.errno or 0)
        raise StartError(f"telemetry.metrics_listen: cannot listen on {where}: {why}") from None
    try:
        try:
            await build(server)
        except Stopped:
            await server.stop()
            return 0
        except BaseException:
            await server.stop()
            raise
        async with server:
            _settle()
            _tell(server, options, worker)
            await server.stopping.wait()
        return 1 if server.failed else 0
    except StartError:
        raise
    except Exception:
        log.critical("the server ends with an error that nobody expected", exc_info=True)
        return 1
    finally:
        await telemetry.stop()


_SWITCH_S = 0.0005
_YOUNG_OBJECTS = 20_000
"""Containers made and not freed between two looks for cycles (700 by default): less than a millisecond's look."""


def _settle() -> None:
    """Spares calls the waits of the interpreter that take milliseconds.

    What is there now stays: a full collection that looked at all of it stood still for 20 to 40 ms. What calls make
    goes without the collector, for it makes no cycles; one request of a hundred records had it look several times, a
    fifth of what the request cost. And a thread that comes back to a busy loop, with what the disk has made durable,
    waits for the loop 0.5 ms instead of 5.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
    sys.setswitchinterval(_SWITCH_S)


def _tell(server: Server, options: ServerOptions, worker: Worker | None) -> None:
    metrics = server.telemetry.metrics_address
    ready: dict[str, Any] = {
        "ready": True,
        "service": options.service,
        "pid": os.getpid(),
        "listen": server.addresses,
        "metrics": [] if metrics is None else [metrics],
        "workers": [],
        **server.ready_facts,
    }
    if worker is not None:
        worker.report(ready)
    else:
        announce(ready, options.ready_file)


async def _supervise(options: ServerOptions, telemetry: TelemetryOptions) -> int:
    stop = asyncio.Event()
    _on_signals(stop, ignore_interrupt=False)
    logs = Logs(telemetry.log, options.service)
    try:
        return await Supervisor(options, own_command(), stop).run(lambda ready: announce(ready, options.ready_file))
    finally:
        logs.close()


def _on_signals(stop: asyncio.Event, *, ignore_interrupt: bool) -> None:
    """Sets ``stop`` at the first SIGTERM or SIGINT and ends the process at the second.

    A worker leaves SIGINT to its supervisor: Ctrl-C in a terminal goes to both of them.
    """

    def received(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, received, signal.SIGTERM)
    loop.add_signal_handler(signal.SIGINT, *((int,) if ignore_interrupt else (received, signal.SIGINT)))
