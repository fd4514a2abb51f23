"""The real process and a real broker, both killed: every change reaches the topic, and writes go on meanwhile."""

import asyncio
import itertools
import json
import signal
import subprocess

import grpc
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from libs.kafka.consumer import Consumer
from libs.kafka.options import Options
from services.storage.rig import put
from services.storage.server_process import Process, command, environment
from tools.dev.servers.kafka import Kafka
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_admin_pb2_grpc, storage_pb2_grpc

PATIENCE_S = 180
RECORDS = 3


@pytest.fixture(scope="module")
def kafka():
    with Kafka() as kafka:
        yield kafka


def make(kafka, name, **config):
    admin = AdminClient({"bootstrap.servers": kafka.address})
    topic = NewTopic(name, 2, 1, config={key.replace("_", "."): value for key, value in config.items()})
    admin.create_topics([topic])[name].result(PATIENCE_S)


def publishing(kafka, topic):
    feeds = f"feeds: [{{namespace: articles, topic: {topic}}}]"
    return f"publishing={{kafka: {{bootstrap_servers: ['{kafka.address}']}}, {feeds}}}"


async def write(server, numbers):
    """Each is acknowledged."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = storage_pb2_grpc.StorageStub(channel)
        for number in numbers:
            request = put(b"r%d" % (number % RECORDS), b"%d" % number, namespace="articles")
            request.annotations["number"] = str(number)
            await stub.Put(request, timeout=PATIENCE_S)


async def create(server):
    async with grpc.aio.insecure_channel(server.address) as channel:
        space = admin_pb.Namespace(name="articles", mode=admin_pb.MODE_CAS)
        stub = storage_admin_pb2_grpc.StorageAdminStub(channel)
        await stub.CreateNamespace(admin_pb.CreateNamespaceRequest(namespace=space), timeout=PATIENCE_S)


async def arrived(kafka, topic, numbers):
    """What each record's partition holds of it, in order, once it is all there."""
    consumer = Consumer(Options(bootstrap=(kafka.address,)), start=False)
    found = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            positions = {(topic, 0): 0, (topic, 1): 0}
            while not set(numbers) <= {number for _, number in found}:
                for place in positions:
                    _, high = await consumer.bounds(place)
                    if positions[place] < high:
                        batch = await consumer.read(place, positions[place], PATIENCE_S)
                        assert not batch.failures
                        found += [read(record) for record in batch.records]
                        positions[place] = max(
                            [batch.ends.get(place, 0), *(record.offset + 1 for record in batch.records)]
                        )
                await asyncio.sleep(0.1)
    finally:
        await consumer.close()
    return found


def read(record):
    """(record, number) of a message, which is a CloudEvent."""
    headers = dict(record.headers)
    assert headers["ce_specversion"] == b"1.0" and headers["ce_type"] == b"wellspring.storage.changed.v1"
    assert headers["ce_subject"] == record.key
    said = json.loads(record.value)
    assert said["changeId"].encode() == headers["ce_id"]
    return record.key, int(said["annotations"]["number"])


def test_every_change_reaches_the_topic_over_kills_of_broker_and_server(tmp_path, kafka):
    make(kafka, "changes")
    server = Process(tmp_path / "data", publishing(kafka, "changes"))
    server.start()
    try:
        asyncio.run(create(server))
        asyncio.run(write(server, range(30)))
        kafka.kill()
        asyncio.run(write(server, range(30, 60)))
        server.end()
        server.start()  # while there is no broker
        asyncio.run(write(server, range(60, 90)))
        kafka.restart()
        asyncio.run(arrived(kafka, "changes", range(90)))
        server.end()
        server.start()
        asyncio.run(write(server, range(90, 120)))
        found = asyncio.run(arrived(kafka, "changes", range(120)))
    finally:
        status = server.end(signal.SIGTERM)
    assert status == 0
    for _, of_record in itertools.groupby(sorted(found, key=lambda one: one[0]), key=lambda one: one[0]):
        numbers = [number for _, number in of_record]
        first = [number for at, number in enumerate(numbers) if number not in numbers[:at]]
        assert first == sorted(first)


def test_a_topic_that_is_not_there_or_forgets_stops_the_start(tmp_path, kafka):
    make(kafka, "compacted", cleanup_policy="compact")
    for topic, why in (("nowhere", "nowhere is not there"), ("compacted", "compacted")):
        words = command(tmp_path / topic, "127.0.0.1:0", publishing(kafka, topic))
        done = subprocess.run(
            words, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, text=True
        )
        assert done.returncode == 78 and why in done.stderr and "Traceback" not in done.stderr, done.stderr
