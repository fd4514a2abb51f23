"""The real process and a real broker, both killed: every event reaches the topic, and logins go on meanwhile."""

import asyncio
import json
import signal
import uuid

import grpc
import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.kafka.options import Options
from services.session.audit.topic import entries
from services.session.audit.verify import Chains, keys_of
from services.session.conformance.process import Process
from services.session.crypto import assertions, keyring
from tools.cli.session_audit import audit as command
from tools.dev.servers.kafka import Kafka
from wellspring.session.v1 import session_pb2 as pb
from wellspring.session.v1 import session_pb2_grpc

PATIENCE_S = 180


@pytest.fixture(scope="module")
def kafka():
    with Kafka() as kafka:
        yield kafka


def make(kafka, prefix, **config):
    admin = AdminClient({"bootstrap.servers": kafka.address})
    topic = NewTopic(f"{prefix}session-audit", 3, 1, config={name.replace("_", "."): v for name, v in config.items()})
    admin.create_topics([topic])[topic.topic].result(PATIENCE_S)


def server_of(path, kafka, prefix):
    path.mkdir(exist_ok=True)
    topic = f"topic: {prefix}session-audit, kafka: {{bootstrap_servers: ['{kafka.address}']}}"
    return Process(path, f"audit={{file: {path / 'audit'}, {topic}}}", "server.health_interval=50ms")


async def log_in(server, count):
    """So many logins, all answered; the server says that it is ready behind them."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = session_pb2_grpc.SessionsStub(channel)
        for number in range(count):
            request = pb.CreateRequest(
                realm="web", subject=f"u{number}", assurance=pb.Assurance(level=1), request_id=str(uuid.uuid4())
            )
            await stub.Create(request, timeout=PATIENCE_S)
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING


def lines_of(path):
    return [
        line for file in sorted(path.glob("audit.0*")) + [path / "audit"] for line in file.read_bytes().splitlines()
    ]


async def arrived(kafka, prefix, keys, last):
    """The topic's chains, once the only one of them has got that far."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            chains = Chains(keys)
            async for entry in entries(Options(bootstrap=(kafka.address,)), f"{prefix}session-audit"):
                chains.line(entry.chain, entry.line, entry.where)
            if any(report.last >= last for report in chains.reports.values()):
                return chains.reports
            await asyncio.sleep(0.2)


def test_ses_22_every_event_reaches_the_topic_over_kills_of_broker_and_server(tmp_path, kafka):
    make(kafka, "one.")
    server = server_of(tmp_path / "s", kafka, "one.")
    server.start()
    try:
        asyncio.run(log_in(server, 50))
        kafka.kill()
        asyncio.run(log_in(server, 50))
        server.kill()
        server.start()  # while there is no broker
        asyncio.run(log_in(server, 50))
        kafka.restart()
        keys = keys_of(assertions.key_set(keyring.load(tmp_path / "s" / "keyring.json")))
        ((name, report),) = asyncio.run(arrived(kafka, "one.", keys, len(lines_of(server.path)))).items()
        assert name.startswith("local/") and report.whole and report.first == 1
        server.kill()  # with or without repeats
        server.start()
        asyncio.run(log_in(server, 50))
    finally:
        status = server.kill(signal.SIGTERM)
    assert status == 0
    lines = lines_of(server.path)
    ((_, report),) = asyncio.run(arrived(kafka, "one.", keys, len(lines))).items()
    assert report.whole and report.last == len(lines) and report.vouched == len(lines) - 1
    assert sum(b'"session_created"' in line for line in lines) == 200
    (tmp_path / "keys.json").write_text(assertions.key_set(keyring.load(tmp_path / "s" / "keyring.json")))
    of_topic = ["--kafka", kafka.address, "--topic", "one.session-audit", "--keys", str(tmp_path / "keys.json")]
    done = CliRunner().invoke(command, ["verify", *of_topic, "--json"], standalone_mode=False)
    assert done.exception is None and json.loads(done.output)["last"] == len(lines), done.output
    last = json.loads(lines[-1])
    anchor = f"{last['n'] - 1}:{last['prev']}"
    done = CliRunner().invoke(command, ["verify", *of_topic, "--anchor", anchor], standalone_mode=False)
    assert done.exception is None, done.output
    done = CliRunner().invoke(command, ["verify", *of_topic, "--anchor", "9999:" + "0" * 64], standalone_mode=False)
    assert "1 problem in the audit" in str(done.exception) and "in none of the chains" in done.output


def test_a_topic_that_is_not_there_or_forgets_stops_the_start(tmp_path, kafka):
    status, text = server_of(tmp_path / "a", kafka, "two.").fails()
    assert status == 78 and "two.session-audit is not there" in text and "Traceback" not in text
    make(kafka, "three.", cleanup_policy="compact")
    status, text = server_of(tmp_path / "b", kafka, "three.").fails()
    assert status == 78 and "compacted" in text and "Traceback" not in text
