"""The purge relay's process, one for each host of caches: configuration in, purges out.

python -m services.propagation.relay.main --config relay.yaml
"""

import sys

from libs.config import wiring
from libs.config.command import from_command_line
from libs.config.kafka import kafka_options
from libs.errors.errors import WellspringError
from libs.kafka.consumer import Consumer
from libs.kafka.topics import Topics, check_kept_whole
from libs.kafka.waiting import when_there
from libs.purge.caches import Caches
from libs.rpc.options import StartError
from libs.rpc.run import run
from libs.rpc.server import Server
from services.propagation.relay.metrics import RelayCollector, status_of
from services.propagation.relay.relay import Relay
from wellspring.config.v1 import relay_pb2

BATCH = 1_000
"""Messages of a slice at most."""


def main() -> int:
    """Serves until a signal says stop; returns the exit status."""
    config = from_command_line("relay", relay_pb2.RelayConfig)

    async def build(server: Server) -> None:
        if config.server.workers != 1:
            raise StartError("server.workers: one relay keeps the group's positions; 1 is allowed")
        try:
            await _build(server, config)
        except WellspringError as error:
            raise StartError(error.message) from None

    return run(
        build,
        wiring.server_options("relay", config.server),
        telemetry=wiring.telemetry_options(config.telemetry),
    )


async def _build(server: Server, config: relay_pb2.RelayConfig) -> None:
    names = list(config.topics)
    if len(set(names)) < len(names):
        raise StartError("topics: a topic is given twice; each once")
    options = kafka_options(config.kafka, "kafka")
    caches = await server.resources.add("caches", lambda: _caches(config), close=Caches.close)
    topics = Topics(options)
    check_kept_whole((await when_there(lambda: topics.describe(names))).values())

    async def open_consumer() -> Consumer:
        return Consumer(options, config.group, batch_size=BATCH)

    consumer = await server.resources.add("kafka", open_consumer, close=Consumer.close)
    oldest = config.begin == relay_pb2.RelayConfig.BEGIN_OLDEST
    relay = Relay(consumer, topics, names, caches, slices=config.slices, from_oldest=oldest)
    await when_there(relay.begin)
    server.telemetry.registry.register(RelayCollector(relay))
    layers = [layer.name for layer in caches.layers]
    server.telemetry.add_page("/status", lambda: status_of(relay, layers))
    server.add_background("relay", relay.run)


async def _caches(config: relay_pb2.RelayConfig) -> Caches:
    try:
        return Caches.of(config.caches)
    except ValueError as error:
        raise StartError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
