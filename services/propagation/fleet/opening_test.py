"""What several shards cannot do is refused at the start, by name."""

import asyncio

import pytest

from libs.config.mistakes import ConfigError
from libs.rpc.options import ServerOptions, StartError
from libs.rpc.server import Server
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.telemetry import Telemetry
from services.propagation.fleet.opening import add, is_wanted
from wellspring.config.v1 import propagation_pb2


def settings(shards=4):
    config = propagation_pb2.PropagationConfig()
    config.backend.sharded.shards = shards
    config.server.listen.append("127.0.0.1:0")
    return config


def test_one_shard_and_the_embedded_store_are_no_fleet():
    assert not is_wanted(settings(1))
    assert is_wanted(settings(2))
    alone = propagation_pb2.PropagationConfig(rules_file="rules.yaml")
    alone.backend.embedded.path = "somewhere"
    assert not is_wanted(alone)


def test_mistakes_in_a_rules_file_are_told_at_the_start(tmp_path):
    config = settings()
    config.rules_file = str(tmp_path / "rules.yaml")
    (tmp_path / "rules.yaml").write_text(
        "rules: {x: {topic: wellspring.change.completed.v1, exec: {uri: 'http://x/'}}}"
    )
    server = Server(ServerOptions(service="propagation"), Telemetry(TelemetryOptions(), "propagation"))
    with pytest.raises(ConfigError, match="no source has the topic"):
        asyncio.run(add(server, config))


def test_a_certificate_that_cannot_be_read_is_told_at_the_start(tmp_path):
    config = settings()
    config.backend.sharded.kafka.bootstrap_servers.append("127.0.0.1:1")
    config.backend.sharded.engines_tls.ca_file = str(tmp_path / "missing.pem")
    server = Server(ServerOptions(service="propagation"), Telemetry(TelemetryOptions(), "propagation"))

    async def main():
        async with asyncio.timeout(20):
            await add(server, config)

    with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("listen", "address"), [("0.0.0.0:8003", ""), ("unix:/run/engine", ""), ("127.0.0.1:0", "[::]:8003")]
)
def test_an_address_that_no_other_engine_can_call_is_refused(listen, address):
    config = settings()
    config.server.listen[0] = listen
    config.backend.sharded.address = address
    server = Server(ServerOptions(service="propagation"), Telemetry(TelemetryOptions(), "propagation"))
    with pytest.raises(StartError, match="backend.sharded.address"):
        asyncio.run(add(server, config))
