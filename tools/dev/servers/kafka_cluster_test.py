"""Three brokers: acknowledged messages are on two of them at least, and outlive the death of any one."""

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tools.dev.servers.kafka import Kafka

PATIENCE_S = 180


@pytest.fixture(scope="module")
def kafka():
    with Kafka(brokers=3) as kafka:
        print(f"started in {kafka.start_seconds:.1f} s")
        yield kafka


def test_a_dead_broker_stops_no_writes(kafka):
    admin = AdminClient({"bootstrap.servers": kafka.address})
    admin.create_topics([NewTopic("t", 3)])["t"].result(PATIENCE_S)
    partitions = admin.list_topics("t", timeout=PATIENCE_S).topics["t"].partitions
    assert all(len(p.replicas) == 3 for p in partitions.values())

    errors = []
    producer = Producer({"bootstrap.servers": kafka.address, "acks": "all", "enable.idempotence": True})

    def produce():
        for i in range(300):
            producer.produce("t", key=b"%d" % i, value=b"v", on_delivery=lambda error, _: errors.append(error))
        assert producer.flush(PATIENCE_S) == 0

    produce()
    kafka.brokers[0].kill()
    produce()
    assert errors == [None] * 600
    kafka.brokers[0].restart()
    assert kafka.brokers[0].running
