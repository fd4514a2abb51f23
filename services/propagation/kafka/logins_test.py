"""Processes at brokers that ask who they are: with a wrong password none of them starts, and nothing is read; with the
right one, on the same data, all of it is."""

import asyncio
import subprocess
import sys

import pytest

from libs.kafka.consumer import Consumer
from libs.kafka.producer import Producer
from libs.kafka.testing.broker import create, options_of, send, until
from libs.kafka.testing.secured import LOGIN, USER, SecuredKafka
from services.propagation.relay.testing.host import Cache, RelayProcess
from services.propagation.rules.testing.site import Stub, event
from services.propagation.simulation.processes import Process

RULES = """
rules:
  call:
    topic: events
    retry_delay: 20ms
    retry_limit: 100
    exec: {method: post, uri: 'http://127.0.0.1:PORT/{message.n}'}
"""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    with SecuredKafka(tmp_path_factory.mktemp("certificates")) as kafka:
        create(kafka, "events", "purges")
        kafka.add_user()
        yield kafka


@pytest.fixture
def login(tmp_path, kafka):
    """Brokers as a configuration names them, and the file of the password."""
    file = tmp_path / "password"
    tls = f"tls: {{ca_file: {kafka.ca_file}}}"
    brokers = f"{{bootstrap_servers: ['{kafka.both}'], username: {USER}, password_file: {file}, {tls}, REST}}"
    return brokers.replace("REST", "request_timeout: 30s, delivery_timeout: 30s"), file


def started(process):
    """Whether it starts; it does not while the password is wrong, and says so."""
    try:
        process.start()
    except AssertionError as error:
        said = str(error)
        assert "the Kafka brokers refuse the login" in said or "do not answer" in said, said
        assert "Traceback" not in said and LOGIN not in said
        return False
    return True


async def sent(kafka, topic, *messages):
    producer = Producer(options_of(kafka))
    for message in messages:
        await send(producer, topic, message)
    await producer.close()


def test_an_engine_with_a_wrong_password_reads_nothing_and_with_the_right_one_everything(kafka, login, tmp_path):
    brokers, file = login
    rules = tmp_path / "rules.yaml"

    async def main():
        stub = Stub()
        server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
        rules.write_text(RULES.replace("PORT", str(server.sockets[0].getsockname()[1])))
        events = f"events={{kafka: {brokers}, topics: [events]}}"
        process = Process(tmp_path / "data", events, f"rules_file={rules}")
        try:
            file.write_text(LOGIN)
            # A new user is known a moment after he was made.
            await until(lambda: asyncio.to_thread(started, process), "the engine starts")
            process.kill()
            await sent(kafka, "events", *(event(uri=f"u/{n}", n=n) for n in range(10)))
            file.write_text("not " + LOGIN)
            assert not await asyncio.to_thread(started, process) and not stub.calls
            file.write_text(LOGIN)
            assert await asyncio.to_thread(started, process)
            await until(lambda: set(stub.paths) == {f"/{n}" for n in range(10)}, "all that came meanwhile")
        finally:
            process.kill()
            server.close()

    asyncio.run(main())


def test_a_relay_with_a_wrong_password_moves_no_position(kafka, login):
    brokers, file = login

    async def main():
        cache = Cache("only", [])
        await cache.open()
        relay = RelayProcess(kafka, "purges", [cache], "guarded")
        relay.command = [f"kafka={brokers}" if part.startswith("kafka=") else part for part in relay.command]
        await sent(kafka, "purges", {"meta": {"uri": "http://a.example/first"}})
        try:
            file.write_text("not " + LOGIN)
            assert not await asyncio.to_thread(started, relay)
            plain = Consumer(options_of(kafka), "guarded")
            assert await plain.committed([("purges", 0)]) == {}
            await plain.close()
            file.write_text(LOGIN)
            await until(lambda: asyncio.to_thread(started, relay), "the relay starts")
            await sent(kafka, "purges", {"meta": {"uri": "http://a.example/second"}})
            await until(lambda: cache.paths == {"/second"}, "what comes from now on")
        finally:
            relay.kill()
            cache.server.close()

    asyncio.run(main())


def test_an_executor_with_a_wrong_password_does_not_start(login):
    brokers, file = login
    file.write_text("not " + LOGIN)
    command = [sys.executable, "-m", "services.propagation.executor.main", "--set", f"kafka={brokers}"]
    for setting in ("server.listen=127.0.0.1:0", "engine.addresses=127.0.0.1:9", "storage.addresses=127.0.0.1:9"):
        command += ["--set", setting]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode and "the Kafka brokers refuse the login" in ended.stderr and "Traceback" not in ended.stderr
