"""The echo service as a process of its own, for tests and benches.

``python -m libs.rpc.testing.echo_main '{"listen":["127.0.0.1:0"],"workers":2}'``: the argument holds fields of
``ServerOptions``; beside them ``telemetry`` (fields of ``TelemetryOptions``), ``rules``, and ``break``: ``build`` (the
build raises), ``crash`` (it raises what nobody expects) or ``background`` (background work raises at SIGUSR1). Two
resources write to standard error when they are closed.
"""

import asyncio
import json
import signal
import sys
from functools import partial
from typing import Any

from libs.auth.options import AuthOptions
from libs.rpc.options import ServerOptions, StartError, TlsOptions
from libs.rpc.run import run
from libs.rpc.server import Server
from libs.rpc.testing.echo import POLICIES, SERVICE, EchoServicer, Oops
from libs.telemetry.options import LogOptions, TelemetryOptions, TraceOptions


async def _resource(name: str) -> str:
    return name


async def _close(name: str) -> None:
    sys.stderr.write(f"closed {name}\n")
    sys.stderr.flush()


async def _fail_when_told() -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
    await told.wait()
    raise Oops("background work that fails")


async def build(told: dict[str, Any], server: Server) -> None:
    """Registers the echo service as ``told``."""
    if told.get("break") == "build":
        raise StartError("the store in /nowhere cannot be opened: told to break")
    if told.get("break") == "crash":
        raise Oops("the build fails in a way nobody expected")
    for name in ("first", "second"):
        await server.resources.add(name, partial(_resource, name), close=_close)
    if told.get("break") == "background":
        server.add_background("breaks", _fail_when_told)
    server.add_service(SERVICE, EchoServicer(), POLICIES)


def main(argument: str) -> int:
    """Runs the service; returns its exit status."""
    told = json.loads(argument)
    extra = {name: told.pop(name) for name in ("telemetry", "rules", "break") if name in told}
    if told.get("tls"):
        told["tls"] = TlsOptions(**told["tls"])
    told["listen"] = tuple(told.get("listen", ["127.0.0.1:0"]))
    telemetry = extra.get("telemetry", {})
    options = TelemetryOptions(
        metrics_listen=telemetry.get("metrics_listen"),
        log=LogOptions(**telemetry.get("log", {})),
        trace=TraceOptions(**telemetry.get("trace", {})),
    )
    server_options = ServerOptions(**({"service": "echo"} | told))
    return run(partial(build, extra), server_options, auth=AuthOptions(rules=extra.get("rules", {})), telemetry=options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "{}"))
