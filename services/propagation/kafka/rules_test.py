"""Rules over topics of a real broker: the cases of topics in memory again, several partitions, and what topics may not
be."""

import asyncio
import json

import pytest

from libs.config.config import ConfigError
from libs.kafka.errors import TopicMissing, TopicUnfit
from libs.kafka.producer import Producer
from libs.kafka.testing.broker import all_of, create, cut_before, delete, grow, options_of, send, until
from services.propagation.domain.change import dump, load
from services.propagation.kafka.testing.site import KafkaSite
from services.propagation.rules.state import Cursor
from services.propagation.rules.testing.site import RID, URI, call_of, event
from services.propagation.rules.topics import stream_of
from tools.dev.servers.kafka import Kafka

SIMPLE = {
    "topic": "simple_test_rule",
    "match": {"meta": {"uri": URI}, "message": "test"},
    "retry_limit": 2,
    "retry_delay": 10,
    "retry_on": {"status": ["50x", 400]},
    "ignore": {"status": [403, 412]},
    "exec": {"method": "post", "uri": "http://127.0.0.1:PORT/", "body": {"derived_field": "{{message.message}}"}},
}
FIRST = f"req:{RID},simple_test_rule:{URI}"
AGAIN = f",cp.retry.simple_test_rule:{URI}"


@pytest.fixture(scope="module")
def kafka():
    with Kafka() as kafka:
        yield kafka


def on(kafka, test, **given):
    """Runs a test with a site of its own."""

    async def main():
        site = KafkaSite(kafka, **given)
        async with site.life():
            await test(site)

    asyncio.run(main())


def test_s01_s02_s03_s05_calls_retries_and_their_limit(kafka):
    async def play(site):
        await site.put({"simple_test_rule": SIMPLE})
        for message in (event(message="not this"), event(message="test"), {}):
            await site.send("simple_test_rule", message)
        await site.idle()
        assert site.chains == [FIRST]
        site.stub.answers, site.stub.calls[:] = [500, 200], []
        await site.send("simple_test_rule", event(message="test"))
        await site.idle()
        assert site.chains == [FIRST, FIRST + AGAIN] and not site.letters()
        site.stub.answers, site.stub.calls[:] = [500] * 3, []
        await site.send("simple_test_rule", event(message="test"))
        await site.idle()
        assert site.chains == [FIRST, FIRST + AGAIN, FIRST + 2 * AGAIN]
        assert [(letter.reason, letter.attempts) for letter in site.letters()] == [("HTTP_500", 3)]
        told = [
            json.loads(one.value) for one in await all_of(kafka, f"{site.mark}cp.retry.{site.mark}simple_test_rule")
        ]
        assert [one["retries_left"] for one in told] == [1, 1, 0] and told[0]["original_event"]["message"] == "test"
        site.stub.answers, site.stub.calls[:] = [404], []
        await site.send("simple_test_rule", event(message="test"))
        await site.idle()
        assert len(site.stub.calls) == 1

    on(kafka, play)


def test_s07_s09_garbage_is_told_and_does_not_stop_what_follows(kafka):
    async def play(site):
        await site.put({"simple_test_rule": SIMPLE})
        deep = b"[" * 100_000
        bad = (b"not json", b'"text"', b"[1]", b"\xff\x00", b"", deep)
        for message in (*bad, event(message="test")):
            await site.send("simple_test_rule", message)
        await site.idle()
        assert site.chains == [FIRST]
        told = [json.loads(one.value) for one in await all_of(kafka, f"{site.mark}cp.error")]
        assert [one["raw_event"] for one in told[:3]] == ["not json", '"text"', "[1]"] and len(told) == len(bad)
        assert all(one["$schema"] == "/error/0.0.3" and one["message"] for one in told)

    on(kafka, play)


def test_s08_what_a_rule_publishes_another_rule_hears_and_a_missing_topic_is_a_dead_letter(kafka):
    async def play(site):
        body = {
            "meta": {"stream": "{{message.produce_to_topic}}", "uri": "{{message.meta.uri}}"},
            "message": "test",
            "triggered_by": "{{message.meta.stream}}:{{message.meta.uri}}",
        }
        producing = {
            "topic": "kafka_producing_rule",
            "exec": {"method": "post", "uri": "/sys/queue/events", "body": [body, body]},
        }
        await site.put({"simple_test_rule": SIMPLE, "producing": producing})
        target = site.mark + "simple_test_rule"
        await site.send("kafka_producing_rule", event("kafka_producing_rule", produce_to_topic=target))
        await until(lambda: len(site.stub.calls) == 2, "both events are heard")
        assert site.chains == [f"kafka_producing_rule:{URI},simple_test_rule:{URI}"] * 2
        told = [json.loads(one.value)["meta"] for one in await all_of(kafka, target)]
        assert len({one["id"] for one in told}) == 2 and all(one["dt"] and one["request_id"] for one in told)
        await site.send("kafka_producing_rule", event("kafka_producing_rule", produce_to_topic="nowhere"))
        await until(site.letters, "the dead letter")
        assert [letter.reason for letter in site.letters()] == ["TOPIC_MISSING"]

    on(kafka, play)


def test_s11_s12_lists_of_topics(kafka):
    async def play(site):
        listed = {
            "topics": ["simple_test_rule", "simple_test_rule2", "simple_test_rule3"],
            "exclude_topics": ["simple_test_rule3"],
            "exec": {"method": "post", "uri": "http://127.0.0.1:PORT/", "body": {"topic": "{{message.meta.stream}}"}},
        }
        await site.put({"listed": listed})
        for topic in ("simple_test_rule", "simple_test_rule2", "simple_test_rule3"):
            await site.send(topic, event(topic))
        await site.idle()
        topics = sorted(json.loads(body)["topic"] for *_, body in site.stub.calls)
        assert topics == ["simple_test_rule", "simple_test_rule2"]

    on(kafka, play)


def test_n03_n04_a_crash_repeats_what_was_under_way_and_nothing_else(kafka):
    async def main():
        site = KafkaSite(kafka, partitions=3)
        hang = asyncio.Event()
        slow = {"/3", "/17"}

        async def gate(path):
            if path in slow:
                await hang.wait()

        site.stub.gate = gate
        async with site.life():
            await site.put({"r": call_of("/{message.n}", timeout="10m")})
            sends = [site.send("simple_test_rule", event(uri=f"u/{n}", n=n), f"u/{n}") for n in range(30)]
            await asyncio.gather(*sends)
            await until(lambda: len(site.stub.calls) == 30, "all called")
            streams = site.opened.source.streams(site.mark + "simple_test_rule")
            kept = site.rules.state.cursor

            def done():
                cursors = [kept("r", stream) for stream in streams]
                ends = [site.opened.source.newest(stream) for stream in streams]
                at = [c.at if c else 0 for c in cursors]
                left = sum(
                    end - here - (len(c.done) if c else 0) for c, here, end in zip(cursors, at, ends, strict=True)
                )
                return left == len(slow)

            await until(done, "all but the slow ones durable")
        hang.set()
        async with site.life():
            await until(lambda: len(site.stub.calls) >= 32, "called again")
            await site.idle()
            assert sorted(site.stub.paths[30:]) == sorted(slow) and not site.letters()

    asyncio.run(main())


def test_events_of_a_partition_that_was_added_are_read_from_its_beginning(kafka):
    async def main():
        site = KafkaSite(kafka)
        async with site.life():
            await site.put({"r": call_of("/{message.n}")})
            await site.send("simple_test_rule", event(uri="u/0", n=0))
            grow(kafka, site.mark + "simple_test_rule", 4)
            await until(lambda: len(site.opened.source.streams(site.mark + "simple_test_rule")) == 4, "partitions seen")
            sends = [site.send("simple_test_rule", event(uri=f"u/{n}", n=n), f"u/{n}") for n in range(1, 20)]
            await asyncio.gather(*sends)
            await until(lambda: len(set(site.stub.paths)) == 20, "all called")
            await site.idle()
            assert len(site.stub.calls) == 20

    asyncio.run(main())


def test_a_rule_that_is_behind_reads_what_is_no_more_in_memory(kafka):
    async def main():
        site = KafkaSite(kafka)
        site.buffer_bytes = 4_000  # a handful of events
        count = 700
        async with site.life():
            hold = asyncio.Event()

            async def gate(path):
                await hold.wait()

            site.stub.gate = gate
            rules = {"r": call_of("/{message.n}", timeout="10m"), "other": call_of("/o/{message.n}", timeout="10m")}
            await site.put(rules)
            sends = [site.send("simple_test_rule", event(uri=f"u/{n}", n=n)) for n in range(count)]
            await asyncio.gather(*sends)
            hold.set()
            await until(lambda: len(site.stub.calls) >= 2 * count, "all called")
            await site.idle()
            assert len(site.stub.calls) == len(set(site.stub.paths)) == 2 * count

    asyncio.run(main())


def test_topics_that_cannot_be_are_refused_before_anything_is_read(kafka):
    async def main():
        compacted = KafkaSite(kafka, cleanup_policy="compact")
        with pytest.raises(TopicUnfit, match="is compacted"):
            async with compacted.life():
                raise AssertionError
        site = KafkaSite(kafka)
        name = site.mark + "simple_test_rule"
        async with site.life():
            await site.put({"r": call_of("/{message.n}", retry_limit=0)})
            site.stub.answers = [404]
            await site.send("simple_test_rule", event(uri="bad", n=0))
            for n in range(5):
                await site.send("simple_test_rule", event(uri=f"u/{n}", n=n))
            await site.idle()
        delete(kafka, name)
        await until(lambda: _missing(site), "the topic is gone")
        create(kafka, name)
        with pytest.raises(TopicUnfit, match="deleted and made again"):
            async with site.life():
                raise AssertionError
        site.begin_anew = [name]
        site.stub.calls.clear()
        producer = Producer(options_of(kafka))
        await send(producer, name, event(uri="new", n=9))
        await producer.close()
        async with site.life():
            # What came while nobody listened is not lost.
            await until(lambda: site.stub.paths == ["/9"], "the new topic is read from its beginning")
            await site.idle()
            assert len([one for one in site.letters() if one.event["meta"]["uri"] == "bad"]) == 1

    async def _missing(site):
        try:
            async with site.life():
                return False
        except TopicMissing:
            return True
        except TopicUnfit:
            return False

    asyncio.run(main())


def test_a_topic_that_was_cut_off_is_refused(kafka):
    async def main():
        site = KafkaSite(kafka)
        async with site.life():
            await site.put({"r": call_of("/{message.n}")})
            await site.send("simple_test_rule", event(n=1))
            await site.idle()
            await site.rules.state.put_cursor("r", stream_of(site.mark + "simple_test_rule", 0), Cursor(1000))
        with pytest.raises(TopicUnfit, match="cut off"):
            async with site.life():
                raise AssertionError

    asyncio.run(main())


def test_a_topic_of_another_cluster_is_refused_and_nothing_of_it_is_read(kafka):
    async def main():
        site = KafkaSite(kafka)
        name = site.mark + "simple_test_rule"
        async with site.life():
            await site.put({"r": call_of("/{message.n}")})
            await site.send("simple_test_rule", event(n=1))
            await site.idle()
            step = site.engine.shard.step()
            noted = load(site.engine.shard.store.get_record("kafka", name.encode()))
            step.commit.put_record("kafka", name.encode(), dump({**noted, "cluster": "theirs"}))
            await step.write()
        site.stub.calls.clear()
        with pytest.raises(
            TopicUnfit, match=f"the topic {name} is of another cluster .* positions that are kept .theirs"
        ):
            async with site.life():
                raise AssertionError
        assert not site.stub.calls

    asyncio.run(main())


def test_events_that_the_brokers_dropped_meanwhile_are_told_and_what_is_left_is_read(kafka):
    async def main():
        site = KafkaSite(kafka)
        name = site.mark + "simple_test_rule"
        async with site.life():
            await site.put({"r": call_of("/{message.n}")})
            await site.send("simple_test_rule", event(uri="u/0", n=0))
            await site.idle()
        producer = Producer(options_of(kafka))
        for n in range(1, 9):
            await send(producer, name, event(uri=f"u/{n}", n=n))
        await producer.close()
        cut_before(kafka, name, 5)
        async with site.life():
            await until(lambda: site.stub.paths == ["/0", "/5", "/6", "/7", "/8"], "what is left")
            await site.idle()
            assert site.opened.source.gone == 4 and not site.letters()
            told = [json.loads(one.value)["message"] for one in await all_of(kafka, f"{site.mark}cp.error")]
            assert told == [f"the events of {name}#0 from offset 1 to 4 are gone: the topic did not keep them so long"]

    asyncio.run(main())


def test_what_is_not_of_the_schema_of_its_topic_is_told_and_no_rule_sees_it(kafka):
    async def main():
        site = KafkaSite(kafka)
        site.schemas = {"simple_test_rule": "resource_change"}
        good = event(n=1) | {"$schema": "/resource_change/1.0.0"}
        async with site.life():
            await site.put(
                {"r": call_of("/{message.n}"), "s": call_of("/{message.n}") | {"topic": "simple_test_rule2"}}
            )
            await site.send("simple_test_rule", event(n=0))
            await site.send("simple_test_rule", good | {"tags": "purge", "n": 0})
            await site.send("simple_test_rule", good)
            await site.send("simple_test_rule2", good | {"tags": [1], "n": 0})
            await site.send("simple_test_rule2", event(n=2))
            await site.idle()
            assert sorted(site.stub.paths) == ["/1", "/2"] and not site.letters()
            told = sorted(json.loads(one.value)["message"] for one in await all_of(kafka, f"{site.mark}cp.error"))
            assert told == [
                'is no resource_change/1: tags is "purge"; array is expected',
                "is no resource_change/1: tags[0] is 1; string is expected",
                'names "event/1.0.0" as its $schema; the topic holds events of resource_change',
            ]
        for schemas, says in (
            ({"simple_test_rule": "nonsense"}, '"nonsense" is no schema'),
            ({"x": "error"}, "none of the topics"),
        ):
            site.schemas = schemas
            with pytest.raises(ConfigError, match=says):
                async with site.life():
                    raise AssertionError

    asyncio.run(main())
