"""A shard on a real broker: its former owner writes nothing, its store is made again from the log, and a log that would
lose or mix up anything is refused by name."""

import asyncio
import itertools
import shutil

import pytest
from confluent_kafka.cimpl import Producer

from libs.kafka import transactions
from libs.kafka.errors import Fenced, TopicUnfit
from libs.kafka.testing.broker import PATIENCE_S, all_of, create, cut_before, delete, until
from services.propagation.conformance.harness import SETTINGS
from services.propagation.sharded.opening import TOPIC, open_shard
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.logged.records import LogDamaged, Owner, parse
from tools.dev.servers.kafka import Kafka
from wellspring.config.v1 import propagation_pb2

NUMBERS = itertools.count(1)
SESSION_S = 15


@pytest.fixture(scope="module")
def kafka():
    with Kafka() as kafka:
        yield kafka


@pytest.fixture
def prefix():
    """Topics of its own for each test."""
    return f"test-{next(NUMBERS)}."


def settings(kafka, path, prefix, shards=1):
    config = propagation_pb2.ShardedPropagation(shards=shards)
    config.kafka.bootstrap_servers.append(kafka.address)
    config.kafka.topic_prefix, config.kafka.replication = prefix, 1
    config.kafka.group = prefix + "engines"
    config.session_timeout.seconds = SESSION_S
    config.embedded.path = str(path)
    return config


async def opened(kafka, path, prefix):
    async with asyncio.timeout(PATIENCE_S):
        config = settings(kafka, path, prefix)
        return await open_shard(config, lambda at: EmbeddedStore.open(at, settings=SETTINGS), asyncio.Event())


def put(store, key, value=b""):
    commit = store.begin()
    commit.put_record("kind", key, value)
    commit.intern_resources([b"w/" + key])
    return store.write(commit)


def kept(shard):
    return dict(shard.store.records("kind"))


async def refused(kafka, path, prefix, error, says):
    with pytest.raises(error, match=says):
        await opened(kafka, path, prefix)


def test_a_former_owner_writes_nothing_more_and_what_it_was_told_is_kept(kafka, prefix, tmp_path):
    async def main():
        first = await opened(kafka, tmp_path / "a", prefix)
        assert first.store.epoch == 1
        await asyncio.gather(*(put(first.store, b"%d" % n) for n in range(50)))
        await put(first.store, b"big", bytes(range(256)) * 8_000)  # in several pieces
        # The group gives the shard to another one, and nothing tells the first.
        await first.membership.close()
        second = await opened(kafka, tmp_path / "b", prefix)
        assert second.store.epoch == 2 and len(kept(second)) == 51
        assert kept(second) == kept(first)
        await put(second.store, b"newer")
        # The first one has not heard of it yet: what it applies is not durable, then it is told.
        with pytest.raises(Fenced, match="writes nothing more"):
            await put(first.store, b"late")
        with pytest.raises(Fenced):
            put(first.store, b"later")
        with pytest.raises(Fenced):
            await first.check()
        with pytest.raises(Fenced):
            await first.lost()
        await put(second.store, b"newest")
        wanted = kept(second)
        assert len(wanted) == 53 and b"late" not in wanted
        await first.close()
        await second.close()
        # Its directory has a commit that nobody was told of.
        again = await opened(kafka, tmp_path / "a", prefix)
        assert again.store.epoch == 3 and kept(again) == wanted
        names = [b"w/" + key for key in sorted(wanted)]
        numbers = again.store.find_resources(names)
        assert len(set(numbers.tolist())) == 53 and min(numbers) >= 0
        await put(again.store, b"more")
        await again.close()
        shutil.rmtree(tmp_path / "a")
        last = await opened(kafka, tmp_path / "a", prefix)
        assert kept(last) == {**wanted, b"more": b""}
        assert (last.store.find_resources(names) == numbers).all()
        await last.close()

    asyncio.run(main())


def test_a_former_owner_in_full_flight_is_cut_off_and_all_that_it_was_told_is_kept(kafka, prefix, tmp_path):
    """Readers read what no transaction has committed: so the fence is looked at where it is, in the topic itself."""

    async def main():
        first = await opened(kafka, tmp_path / "a", prefix)
        told = set()

        async def write_on():
            for n in itertools.count():
                keys = [b"%d.%d" % (n, at) for at in range(5)]
                await asyncio.gather(*(put(first.store, key) for key in keys))
                told.update(keys)

        writing = asyncio.create_task(write_on())
        await until(lambda: len(told) > 20, "it writes")
        await first.membership.close()
        second = await opened(kafka, tmp_path / "b", prefix)
        with pytest.raises(Fenced):
            async with asyncio.timeout(PATIENCE_S):
                await writing
        assert told <= kept(second).keys()
        await put(second.store, b"newest")
        found = [parse(one.value, "it") for one in await all_of(kafka, prefix + TOPIC, uncommitted=True)]
        words = [at for at, one in enumerate(found) if isinstance(one, Owner)]
        assert [found[at].position.epoch for at in words] == [1, 2]
        assert {one.position.epoch for one in found[: words[1]]} == {1}
        assert {one.position.epoch for one in found[words[1] :]} == {2}, "nothing of a former owner, however late"
        assert found[words[1]].position.number == len(kept(second)) - 1
        await first.close()
        await second.close()

    asyncio.run(main())


@pytest.mark.parametrize("renew_s", [30.0, 0.01])
def test_appends_wait_for_a_broker_that_is_killed_and_none_is_lost_or_doubled(
    kafka, prefix, tmp_path, monkeypatch, renew_s
):
    monkeypatch.setattr(transactions, "RENEW_S", renew_s)

    async def main():
        shard = await opened(kafka, tmp_path / "a", prefix)
        await put(shard.store, b"first")
        waiting = [asyncio.ensure_future(put(shard.store, b"%d" % n)) for n in range(20)]
        await asyncio.to_thread(kafka.brokers[0].restart, PATIENCE_S)
        waiting += [asyncio.ensure_future(put(shard.store, b"%d" % n)) for n in range(20, 40)]
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*waiting)
        await shard.close()
        again = await opened(kafka, tmp_path / "b", prefix)
        assert set(kept(again)) == {b"first", *(b"%d" % n for n in range(40))}
        assert again.store.position.number == 41, "each once"
        await again.close()

    asyncio.run(main())


def test_a_store_that_is_ahead_of_its_log_goes_back_to_its_checkpoint(kafka, prefix, tmp_path):
    path = tmp_path / "a" / "shard-0"
    checkpoint, former = (path.with_name(f"shard-0.{name}") for name in ("checkpoint", "checkpoint.former"))

    async def main():
        first = await opened(kafka, tmp_path / "a", prefix)
        for n in range(10):
            await put(first.store, b"%d" % n)
        keeping = asyncio.create_task(first.keep_checkpoints())
        await until(checkpoint.exists, "the first checkpoint")
        keeping.cancel()
        for n in range(10, 15):
            await put(first.store, b"%d" % n)
        await first.directory.keep_checkpoint(first.embedded, first.log)
        for n in range(15, 20):
            await put(first.store, b"%d" % n)
        await first.membership.close()
        second = await opened(kafka, tmp_path / "b", prefix)
        with pytest.raises(Fenced):
            await put(first.store, b"never acknowledged")
        await put(second.store, b"newest")
        # What it has now is no checkpoint: the log has not all of it.
        with pytest.raises(Fenced):
            await first.directory.keep_checkpoint(first.embedded, first.log)
        wanted = kept(second)
        await first.close()
        await second.close()
        # The owner's word is record 0, and a record follows for each commit: of no use is now the first checkpoint, and
        # nothing makes a store of nothing.
        await asyncio.to_thread(cut_before, kafka, prefix + TOPIC, 12)
        # Killed while one checkpoint took the place of another.
        checkpoint.rename(former)
        again = await opened(kafka, tmp_path / "a", prefix)
        assert kept(again) == wanted and len(wanted) == 21
        assert not former.exists() and not checkpoint.exists(), "it is used up"
        await put(again.store, b"last")
        await again.close()
        # Whoever removes the store wants no checkpoint of it either.
        checkpoint.mkdir()
        shutil.rmtree(path)
        await refused(kafka, tmp_path / "a", prefix, TopicUnfit, "was cut off: partition 0 begins at 12")
        assert not checkpoint.exists()

    asyncio.run(main())


def test_a_log_that_is_not_whole_or_not_its_own_is_refused_by_name(kafka, prefix, tmp_path):
    topic = prefix + TOPIC

    async def main():
        shard = await opened(kafka, tmp_path / "a", prefix)
        for n in range(5):
            await put(shard.store, b"%d" % n)
        await shard.close()
        await asyncio.to_thread(cut_before, kafka, topic, 4)
        await refused(kafka, tmp_path / "b", prefix, TopicUnfit, "was cut off: partition 0 begins at 4")
        # Whoever has the rest goes on.
        again = await opened(kafka, tmp_path / "a", prefix)
        assert len(kept(again)) == 5
        await again.close()
        foreign = Producer({"bootstrap.servers": kafka.address})
        foreign.produce(topic, b'{"some": "event"}')
        assert foreign.flush(PATIENCE_S) == 0
        await refused(kafka, tmp_path / "a", prefix, LogDamaged, "something else writes to this log")
        await asyncio.to_thread(delete, kafka, topic)
        await asyncio.to_thread(create, kafka, topic, retention_ms="-1")
        await refused(kafka, tmp_path / "a", prefix, TopicUnfit, "deleted and made again")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"cleanup_policy": "compact"}, "drops records"),
        ({"retention_ms": "1000"}, "drops records"),
        ({"retention_ms": "-1", "retention_bytes": "1000"}, "drops records"),
        ({"retention_ms": "-1", "partitions": 2}, "has 2 partitions, and the configuration says 1"),
    ],
)
def test_a_topic_that_would_lose_anything_is_refused(kafka, prefix, tmp_path, made, says):
    create(kafka, prefix + TOPIC, **made)
    asyncio.run(refused(kafka, tmp_path / "a", prefix, TopicUnfit, says))


def test_a_directory_without_a_log_is_refused(kafka, prefix, tmp_path):
    async def main():
        alone = EmbeddedStore.open(tmp_path / "a" / "shard-0", settings=SETTINGS)
        await put(alone, b"mine")
        await alone.close()
        await refused(kafka, tmp_path / "a", prefix, TopicUnfit, "has no log in Kafka")

    (tmp_path / "a").mkdir()
    asyncio.run(main())
