"""Logins at a real broker: the right one works, and each wrong one has its name, at whatever asks first."""

import asyncio
from dataclasses import replace

import pytest

from libs.kafka.consumer import Consumer
from libs.kafka.errors import AccessRefused, BrokersAway, DeliveryUnknown
from libs.kafka.options import Options
from libs.kafka.producer import Producer
from libs.kafka.testing.broker import PATIENCE_S, create, options_of, send, until
from libs.kafka.testing.secured import LOGIN, USER, SecuredKafka
from libs.kafka.topics import Topics


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    with SecuredKafka(tmp_path_factory.mktemp("certificates")) as kafka:
        create(kafka, "open", "closed")
        kafka.close_topic("closed")
        kafka.add_user()

        async def fill():
            producer = Producer(options_of(kafka))
            await send(producer, "open", b"first")
            await producer.close()
            # A new user is known a moment after he was made, and so are the rules that were made before.
            await until(lambda: answers(scram(kafka)), "the user is known")

        asyncio.run(fill())
        yield kafka


async def answers(options):
    try:
        await Topics(options).cluster()
    except (AccessRefused, BrokersAway):
        return False
    return True


def scram(kafka, **changed):
    plain = Options(
        (kafka.scram,), username=USER, password=LOGIN, request_timeout_s=60.0, delivery_timeout_s=PATIENCE_S
    )
    return replace(plain, **changed)


def tls(kafka, authority=None, *, expired=False, **changed):
    certificate, key = kafka.client(authority or kafka.authority, expired=expired)
    files = {"ca_file": kafka.ca_file, "certificate_file": certificate, "key_file": key}
    plain = Options((kafka.tls,), tls=True, request_timeout_s=60.0, delivery_timeout_s=PATIENCE_S, **files)
    return replace(plain, **changed)


def both(kafka, **changed):
    return replace(scram(kafka), **({"bootstrap": (kafka.both,), "tls": True, "ca_file": kafka.ca_file} | changed))


@pytest.mark.parametrize("options", [scram, tls, both])
def test_the_right_login_reads_and_writes(kafka, options):
    async def main():
        given = options(kafka)
        assert await Topics(given).cluster() and await Topics(given).describe(["open"])
        producer, consumer = Producer(given), Consumer(given)
        sent = await send(producer, "open", b"mine")
        await consumer.assign({("open", 0): sent.offset})
        async with asyncio.timeout(PATIENCE_S):
            while not (batch := await consumer.batch()).records:
                pass
        assert batch.records[0].value == b"mine"
        await producer.close()
        await consumer.close()

    asyncio.run(main())


WRONG = {
    "password": (lambda kafka: scram(kafka, password="not the right one"), "refuse the login"),
    "user": (lambda kafka: scram(kafka, username="nobody"), "refuse the login"),
    "password over TLS": (lambda kafka: both(kafka, password="not the right one"), "refuse the login"),
    "authority of the broker": (lambda kafka: tls(kafka, ca_file=kafka.foreign_ca_file), "TLS with"),
    "expired broker": (lambda kafka: tls(kafka, bootstrap=(kafka.expired,)), "TLS with"),
    "authority of the client": (lambda kafka: tls(kafka, kafka.foreign), "TLS with"),
    "expired client": (lambda kafka: tls(kafka, expired=True), "TLS with"),
    "no client certificate": (lambda kafka: tls(kafka, certificate_file="", key_file=""), "TLS with"),
}


@pytest.mark.parametrize("which", WRONG)
def test_a_wrong_login_is_named_by_whatever_asks_and_nothing_is_read(kafka, which):
    make, says = WRONG[which]

    async def main():
        options = replace(make(kafka), request_timeout_s=1.0, delivery_timeout_s=1.0)
        message = await refused(lambda: Topics(options).cluster(), says)
        assert "not the right one" not in message
        topics, producer, consumer = Topics(options), Producer(options), Consumer(options, start=False)
        await refused(lambda: topics.describe(["open"]), says)
        await refused(lambda: producer.send("open", b"x"), says)
        await refused(lambda: consumer.bounds(("open", 0)), says)
        await producer.close()
        await consumer.close()
        reading = Consumer(options)
        await reading.assign({("open", 0): 0})
        failures = []
        async with asyncio.timeout(PATIENCE_S):
            while not any(isinstance(one, AccessRefused) for one in failures):
                batch = await reading.batch()
                assert not batch.records
                failures = batch.failures
        await reading.close()

    asyncio.run(main())


async def refused(ask, says):
    """Asks until the refusal was heard: until then nobody answered."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await ask()
            except AccessRefused as error:
                assert says in error.message, error.message
                return error.message
            except (BrokersAway, DeliveryUnknown):
                continue
            raise AssertionError("the login was taken")


def test_a_topic_that_the_user_may_not_read_is_named(kafka):
    async def main():
        options = scram(kafka)
        with pytest.raises(AccessRefused, match="topic closed: an access rule"):
            await Topics(options).describe(["open", "closed"])
        producer = Producer(options)
        with pytest.raises(AccessRefused, match="topic closed: an access rule"):
            await producer.send("closed", b"x")
        assert await producer.send("open", b"x")
        await producer.close()

    asyncio.run(main())
