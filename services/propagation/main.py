"""The propagation service's process: configuration in, server out.

python -m services.propagation.main --config propagation.yaml
"""

import os
import sys
from collections.abc import Sequence
from random import Random

from libs.clock.clock import SystemClock
from libs.config import wiring
from libs.config.command import from_command_line
from libs.config.config import ConfigError
from libs.errors.errors import WellspringError
from libs.kafka.waiting import when_there
from libs.purge.caches import Caches
from libs.rpc.options import StartError
from libs.rpc.run import run
from libs.rpc.server import Server
from services.propagation import backends, configured
from services.propagation.domain.engine import Engine
from services.propagation.files import rules_file, views_file
from services.propagation.fleet import opening as fleet
from services.propagation.homes.opening import Homes
from services.propagation.homes.taking import Taking
from services.propagation.intake.intake import Intake
from services.propagation.kafka.listening import Listening
from services.propagation.kafka.metrics import ReceiverCollector, SourceCollector
from services.propagation.kafka.opening import EventTopics, open_topics
from services.propagation.metrics import EngineCollector
from services.propagation.rules.caller import TargetsCaller
from services.propagation.rules.rules import Rules
from services.propagation.service import add_propagation
from services.propagation.views.catalogue import Catalogue
from services.propagation.views.file import FollowedFile
from wellspring.config.v1 import propagation_pb2


def main() -> int:
    """Serves until a signal says stop; returns the exit status."""
    config = from_command_line("propagation", propagation_pb2.PropagationConfig)

    async def build(server: Server) -> None:
        try:
            _check(config)
            if fleet.is_wanted(config):
                await fleet.add(server, config)
            else:
                await _build(server, config)
        except (WellspringError, ConfigError) as error:
            raise StartError(error.message) from None
        except OSError as error:
            raise StartError(f"{error.filename or 'a file'}: {error.strerror}") from None

    return run(
        build,
        wiring.server_options("propagation", config.server),
        auth=wiring.auth_options(config.auth),
        telemetry=wiring.telemetry_options(config.telemetry),
    )


def _check(config: propagation_pb2.PropagationConfig) -> None:
    """Raises StartError and ConfigError for what this release has not."""
    backends.check(config)
    sources = [source.name for source in config.canaries]
    if len(set(sources)) < len(sources):
        raise StartError("canaries: a name is given twice; each source has its own")
    names = [lane.name for lane in config.lanes] or [config.default_lane]
    if len(set(names)) < len(names):
        raise StartError("lanes: a name is given twice; each lane has its own")
    if config.default_lane not in names:
        raise StartError(f"default_lane: {config.default_lane!r} is none of the lanes; they are: {', '.join(names)}")


async def _build(server: Server, config: propagation_pb2.PropagationConfig) -> None:
    clock = SystemClock()
    rng = Random(os.urandom(16))  # noqa: S311  spreads retries, guards nothing
    store, snapshots = await backends.add_store(server, config)
    catalogue = Catalogue(store, configured.defaults(config))
    settings = configured.settings(config)
    engine = Engine(store, clock, rng, settings, catalogue.views(), catalogue.revision, catalogue.older())
    if config.views_file:
        await _follow(server, views_file(config.views_file, catalogue, engine), config.views_file)
    tokens = await configured.page_tokens(config, clock, store)
    intake: Intake | None = None
    if config.HasField("storage"):
        intake = configured.intake(config, await configured.storage(server, config), engine)
    server.telemetry.registry.register(EngineCollector(engine))
    caches = await server.resources.add("caches", lambda: configured.caches(config), close=Caches.close)
    rules = await _rules(server, config, engine, rng)
    if config.rules_file:
        await _follow(server, rules_file(config.rules_file, rules), config.rules_file)
    homes: Sequence[Taking] = ()
    if config.homes:
        connected = await server.resources.add("homes", lambda: Homes.open(config), close=Homes.close)
        homes = connected.takings(engine, catalogue)
    max_batch = config.leases.max_batch_items
    add_propagation(server, engine, catalogue, tokens, intake, max_batch, caches, rules, homes, snapshots)


async def _rules(server: Server, config: propagation_pb2.PropagationConfig, engine: Engine, rng: Random) -> Rules:
    caller = TargetsCaller(configured.targets(config))
    if not config.HasField("events"):
        return Rules(engine, caller, engine.shard.clock, rng)
    topics = await server.resources.add(
        "kafka", lambda: when_there(lambda: open_topics(config.events, engine)), close=EventTopics.close
    )
    rules = Rules(engine, caller, engine.shard.clock, rng, [topics.source], topics.sink)
    server.add_background("kafka's topics", topics.source.run)
    server.telemetry.registry.register(SourceCollector(rules, topics.source))
    if config.events.HasField("http"):
        listening = await server.resources.add(
            "events over http", lambda: Listening.open(config.events, topics.producer), close=Listening.close
        )
        server.telemetry.registry.register(ReceiverCollector(listening.receiver))
    return rules


async def _follow(server: Server, file: FollowedFile, path: str) -> None:
    try:
        await file.read_first()
    except UnicodeDecodeError:
        raise StartError(f"{path} is not UTF-8") from None
    server.add_background(f"{file.what} file", file.follow)


if __name__ == "__main__":
    sys.exit(main())
