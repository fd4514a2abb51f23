"""The gateway's process: configuration in, readers served.

python -m services.gateway.main --config gateway.yaml
"""

import errno
import os
import sys
import time

from aiohttp import web

from libs.config import wiring
from libs.config.clients import caller, open_channels
from libs.config.command import from_command_line
from libs.rpc.options import StartError
from libs.rpc.run import run
from libs.rpc.server import Server
from services.gateway.domain.cache import PageCache
from services.gateway.domain.reads import ReadCounts
from services.gateway.domain.routes import Route
from services.gateway.http_app import Gateway, HttpOptions, parse_networks
from services.gateway.metrics import ReportCollector
from services.gateway.reporting import ReadReporter
from services.gateway.storage_origin import StorageOrigin
from wellspring.config.v1 import gateway_pb2
from wellspring_client.channels import Channels
from wellspring_client.propagation_work import PropagationWork


def main() -> int:
    """Serves until a signal says stop; returns the exit status."""
    config = from_command_line("gateway", gateway_pb2.GatewayConfig)

    async def build(server: Server) -> None:
        channels = await server.resources.add(
            "storage channel", lambda: open_channels(config.storage), close=Channels.close
        )
        origin = StorageOrigin(caller(channels, config.storage), wiring.seconds(config.storage.timeout))
        gateway = Gateway(origin, _cache(config), _options(config), server.telemetry.registry)
        if config.HasField("propagation"):
            gateway.reads = await _report_reads(server, config)

        async def check(_: web.AppRunner) -> None:
            if not await origin.healthy():
                raise RuntimeError("storage cannot be reached")

        runner = await server.resources.add(
            "http", lambda: _listen(gateway.app(), config.http), close=web.AppRunner.cleanup, health=check
        )
        server.ready_facts["http"] = [_printed(address) for address in runner.addresses]

    return run(
        build, wiring.server_options("gateway", config.server), telemetry=wiring.telemetry_options(config.telemetry)
    )


async def _report_reads(server: Server, config: gateway_pb2.GatewayConfig) -> ReadCounts:
    """Counts of reads, told to propagation while the server runs. Its absence is no fault of the gateway's health."""
    channels = await server.resources.add(
        "propagation channel", lambda: open_channels(config.propagation), close=Channels.close
    )
    counts = ReadCounts()
    work = PropagationWork(caller(channels, config.propagation))
    reporter = ReadReporter(work, counts, wiring.seconds(config.report_interval))
    server.telemetry.registry.register(ReportCollector(reporter))
    server.add_background("read reports", reporter.run)
    return counts


def _cache(config: gateway_pb2.GatewayConfig) -> PageCache:
    return PageCache(
        capacity_bytes=config.cache.max_bytes,
        lifetime_s=wiring.seconds(config.cache.max_age),
        max_minimums=config.purge.max_minimum_versions,
        minimum_kept_s=wiring.seconds(config.purge.minimum_kept),
        forgot_until_s=time.monotonic() + wiring.seconds(config.purge.minimum_kept),
        max_page_bytes=config.cache.max_page_bytes,
    )


def _options(config: gateway_pb2.GatewayConfig) -> HttpOptions:
    try:
        purgers = parse_networks(config.purge.allow_from)
    except ValueError as error:
        raise StartError(f"purge.allow_from: {error}") from None
    return HttpOptions(
        routes=tuple(
            Route(r.path_prefix, r.namespace, r.record_prefix, r.item_key.encode(), r.view, r.resource_prefix)
            for r in config.routes
        ),
        purgers=purgers,
        browser_max_age_s=int(wiring.seconds(config.max_age)),
        shared_max_age_s=int(wiring.seconds(config.shared_max_age)),
    )


async def _listen(app: web.Application, config: gateway_pb2.GatewayHttp) -> web.AppRunner:
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=wiring.seconds(config.idle_timeout),
        shutdown_timeout=wiring.seconds(config.drain_grace),
    )
    await runner.setup()
    for address in config.listen:
        host, _, port = address.rpartition(":")
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            await runner.cleanup()
            why = "it is in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
            raise StartError(f"http.listen: cannot listen on {address}: {why}") from None
    return runner


def _printed(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


if __name__ == "__main__":
    sys.exit(main())
