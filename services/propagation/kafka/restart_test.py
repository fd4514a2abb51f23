"""kill -9 of the real server and of the broker, and a stopped server, while rules call: every acknowledged event is
worked on, whatever died when."""

import asyncio
import os
import signal
from random import Random

import aiohttp
import pytest

from libs.kafka.producer import Producer
from libs.kafka.testing.broker import create, options_of, send, until
from services.propagation.rules.testing.site import Stub, event
from services.propagation.simulation.processes import Process, Stubs, connected
from tools.dev.servers.kafka import Kafka
from tools.dev.servers.ports import free_port
from wellspring.propagation.v1 import propagation_admin_pb2 as admin

RULES = """
rules:
  call:
    topic: events
    concurrency: 4
    retry_delay: 20ms
    retry_limit: 100
    exec: {method: post, uri: 'http://127.0.0.1:PORT/{message.n}'}
"""
FORWARDS = """
rules:
  forward:
    topic: arrivals
    retry_delay: 20ms
    retry_limit: 100
    exec:
      uri: 'http://127.0.0.1:PORT/'
      cloudevent: {type: passed.on, source: 'https://wellspring.example', id: 'arrived/{{message.meta.id}}'}
      body: '{{message.data}}'
"""
EVENTS = 90
STEPS = ("kill the server", "stop the server", "kill the broker", "kill both", "kill the server")


@pytest.fixture(scope="module")
def kafka():
    with Kafka() as kafka:
        create(kafka, "events", partitions=3)
        create(kafka, "arrivals")
        yield kafka


def settings(kafka, rules, topics="events"):
    brokers = f"kafka: {{bootstrap_servers: ['{kafka.address}'], delivery_timeout: 5s}}"
    return [f"events={{{brokers}, topics: [{topics}]}}", f"rules_file={rules}"]


class Target(Stub):
    """Fails one call in five."""

    def __init__(self, rng):
        super().__init__()
        self.rng = rng
        self.done = set()

    async def answer(self, path):
        await asyncio.sleep(self.rng.uniform(0, 0.01))
        if self.rng.random() < 0.2:
            return 503
        self.done.add(path)
        return 200

    async def serve(self, reader, writer):
        try:
            while line := await reader.readline():
                size = 0
                while (row := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = row.decode().partition(":")
                    size = int(value) if name.lower() == "content-length" else size
                await reader.readexactly(size)
                status = await self.answer(line.split()[1].decode())
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode())
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the server was killed
        finally:
            writer.close()


def test_p1_every_acknowledged_event_is_worked_on_over_kills_of_server_and_broker(kafka, tmp_path):
    seed = 11
    print("seed", seed)
    rng = Random(seed)
    target = Target(Random(seed))

    async def step(process, what):
        if what == "stop the server":
            os.kill(process.process.pid, signal.SIGSTOP)
            await asyncio.sleep(rng.uniform(0, 0.5))
            os.kill(process.process.pid, signal.SIGCONT)
        if what in ("kill the server", "kill both"):
            process.kill()
        if what in ("kill the broker", "kill both"):
            await asyncio.to_thread(kafka.brokers[0].restart)
        if what in ("kill the server", "kill both"):
            await asyncio.to_thread(process.start)

    async def main():
        server = await asyncio.start_server(target.serve, "127.0.0.1", 0)
        rules = tmp_path / "rules.yaml"
        rules.write_text(RULES.replace("PORT", str(server.sockets[0].getsockname()[1])))
        process = Process(tmp_path / "data", *settings(kafka, rules))
        await asyncio.to_thread(process.start)
        producer = Producer(options_of(kafka))
        try:
            for n in range(EVENTS):
                at, left = divmod(n + 1, EVENTS // (len(STEPS) + 1))
                if not left and at <= len(STEPS):
                    await step(process, STEPS[at - 1])
                await send(producer, "events", event("events", uri=f"u/{n}", n=n), f"u/{n}")
            wanted = {f"/{n}" for n in range(EVENTS)}
            await until(lambda: target.done == wanted, "every event")
            async with connected(process) as channel:
                request = admin.QueryDeadLettersRequest(filter=admin.DeadLetterFilter(view="rule/"))
                assert (await Stubs(channel).admin.QueryDeadLetters(request)).total == 0
        finally:
            process.kill()
            await producer.close()
            server.close()

    asyncio.run(main())


def test_a_topic_that_is_missing_is_named_at_the_start(kafka, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: {}")
    process = Process(tmp_path / "data", *settings(kafka, rules, "events, nowhere"))
    with pytest.raises(AssertionError) as caught:
        process.start()
    said = str(caught.value)
    assert "the topic nowhere is not there" in said and "Traceback" not in said and "KafkaError" not in said


def test_cloudevents_over_http_outlive_kill_9_and_go_out_over_http(kafka, tmp_path):
    """What was acknowledged by 204 is worked on, whatever died after it; what was not is sent again."""
    port = free_port()
    stub = Stub()

    async def main():
        server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
        rules = tmp_path / "rules.yaml"
        rules.write_text(FORWARDS.replace("PORT", str(server.sockets[0].getsockname()[1])))
        brokers = f"kafka: {{bootstrap_servers: ['{kafka.address}'], delivery_timeout: 5s}}"
        http = f"http: {{listen: ['127.0.0.1:{port}'], topics: [arrivals]}}"
        events = f"events={{{brokers}, topics: [arrivals], {http}}}"
        process = Process(tmp_path / "data", events, f"rules_file={rules}")
        await asyncio.to_thread(process.start)
        try:
            async with aiohttp.ClientSession() as session:
                for n in range(12):
                    if n % 4 == 2:
                        process.kill()
                        await asyncio.to_thread(process.start)
                    if n == 5:
                        await asyncio.to_thread(kafka.brokers[0].restart)
                    await posted(session, port, n)
            wanted = {f"arrived/{n}" for n in range(12)}
            await until(lambda: ids(stub) >= wanted, "every event goes out")
            assert ids(stub) == wanted
        finally:
            process.kill()
            server.close()

    asyncio.run(main())


def ids(stub):
    return {headers["ce-id"] for _, _, headers, _ in stub.calls}


async def posted(session, port, number):
    """Sends an event until it is acknowledged: the three modes in turn."""
    plain = {"specversion": "1.0", "id": str(number), "source": "https://a.example", "type": "t", "data": {"n": number}}
    if number % 3 == 0:
        body, headers = plain, {"Content-Type": "application/cloudevents+json"}
    elif number % 3 == 1:
        body, headers = [plain], {"Content-Type": "application/cloudevents-batch+json"}
    else:
        body, headers = plain["data"], {f"Ce-{name}": text for name, text in plain.items() if name != "data"}
        headers["Content-Type"] = "application/json"

    async def sent():
        try:
            async with session.post(f"http://127.0.0.1:{port}/events/arrivals", json=body, headers=headers) as answer:
                assert answer.status in (204, 503), await answer.text()
                return answer.status == 204
        except aiohttp.ClientError:
            return False

    await until(sent, "the event is taken")
