"""A real Kafka broker: a round trip with the real client; acknowledged messages outlive kill -9; a pause."""

import os
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tools.dev.servers.kafka import Kafka

COUNT = 500
PATIENCE_S = 180


@pytest.fixture(scope="module")
def kafka():
    with Kafka() as kafka:
        print(f"started in {kafka.start_seconds:.1f} s")
        yield kafka


@pytest.mark.skipif("TEST_SRCDIR" not in os.environ, reason="Bazel makes the archive")
def test_classes_come_out_of_the_archive(kafka):
    assert "/kafka_jars.jsa\n" in Path(f"/proc/{kafka.brokers[0].pid}/maps").read_text()


def create(kafka, topic):
    admin = AdminClient({"bootstrap.servers": kafka.address})  # Its futures end when it is dropped.
    admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(PATIENCE_S)


def produce(kafka, topic, keys):
    """Sends a message for each key; returns those that were acknowledged."""
    acknowledged = []

    def delivered(error, message):
        assert error is None, error
        acknowledged.append(message.key())

    producer = Producer({"bootstrap.servers": kafka.address, "enable.idempotence": True, "linger.ms": 5})
    for key in keys:
        producer.produce(topic, key=key, value=b"v" * 100, on_delivery=delivered)
    assert producer.flush(PATIENCE_S) == 0
    return acknowledged


def consume(kafka, topic, count):
    consumer = Consumer(
        {"bootstrap.servers": kafka.address, "group.id": f"all-{topic}", "auto.offset.reset": "earliest"}
    )
    try:
        consumer.subscribe([topic])
        keys = []
        while len(keys) < count:
            batch = consumer.consume(count, timeout=PATIENCE_S)
            assert batch, f"{len(keys)} of {count} messages within {PATIENCE_S} s"
            assert all(m.error() is None for m in batch)
            keys += [m.key() for m in batch]
        consumer.commit(asynchronous=False)
        return keys
    finally:
        consumer.close()


def test_round_trip_and_kill_9(kafka):
    create(kafka, "t")
    keys = [b"%d" % i for i in range(COUNT)]
    assert sorted(produce(kafka, "t", keys)) == sorted(keys)
    kafka.kill()
    kafka.restart()
    assert sorted(consume(kafka, "t", COUNT)) == sorted(keys)


def test_a_paused_broker_acknowledges_after_it_resumes(kafka):
    create(kafka, "p")
    kafka.pause()
    with pytest.raises(KafkaException) as error:
        AdminClient({"bootstrap.servers": kafka.address, "log_level": 0}).list_topics("p", timeout=1)
    assert error.value.args[0].code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT)
    kafka.resume()
    assert produce(kafka, "p", [b"k"]) == [b"k"]
    assert consume(kafka, "p", 1) == [b"k"]


def test_topics_are_not_created_by_use(kafka):
    metadata = AdminClient({"bootstrap.servers": kafka.address}).list_topics("nowhere", timeout=PATIENCE_S)
    assert metadata.topics["nowhere"].error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_no_broker_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Kafka(brokers=0)
