"""Intents go in order, many at once, with the rows beside them: as many as a batch of several partitions may hold."""

import asyncio

import pytest

from libs.errors.errors import Unavailable
from services.storage.cassandra.lanes import Lane

WARNED_BYTES = 5 * 1024
"""From which size on Cassandra warns of a batch of several partitions (``batch_size_warn_threshold``)."""


class Cluster:
    """A session and its statements; of each batch it keeps the writes. Batches wait until ``open`` is set."""

    options = type("Options", (), {"local_datacentre": "dc1"})()

    def __init__(self):
        self.write = {name: name for name in ("lane", "slot", "intend", "index")}
        self.batches = []
        self.open = asyncio.Event()
        self.failing = False

    async def execute(self, statement, values, consistency):
        return []

    async def batch(self, writes, consistency):
        self.batches.append(list(writes))
        await self.open.wait()
        if self.failing:
            raise Unavailable("away")
        return []


def play(story):
    async def run():
        cluster = Cluster()
        await story(cluster, Lane(1, cluster, cluster, 1))

    asyncio.run(run())


def announce(lane, count, record, beside=True, first=1):
    """``count`` intents, each being written by its own task."""
    tasks = []
    for number in range(first, first + count):
        key = b"%d-%s" % (number, record)
        told = lane.announce(number, key, [("index", (1, 0, key, number))] if beside else ())
        tasks.append(asyncio.create_task(lane.write(told)))
    return tasks


@pytest.mark.parametrize("size", [1, 16, 1000])
def test_what_is_beside_an_intent_is_in_its_batch(size):
    async def story(cluster, lane):
        cluster.open.set()
        intents = await asyncio.gather(*announce(lane, 300, b"r" * size))
        assert [intent.sequence for intent in intents] == list(range(1, 301))
        written = [values[3] for batch in cluster.batches for name, values in batch if name == "intend"]
        assert written == list(range(1, 301)), "in order, each once"
        for batch in cluster.batches:
            records = [values[4] for name, values in batch if name == "intend"]
            assert [values[2] for name, values in batch if name == "index"] == records
            bytes_of = sum(len(values[-1 if name == "intend" else 2]) + 40 for name, values in batch)
            assert len(records) == 1 or bytes_of < WARNED_BYTES, (len(records), bytes_of)
        assert size > 100 or len(cluster.batches) < 30

    play(story)


def test_intents_alone_are_of_one_partition_and_bounded_by_their_number():
    async def story(cluster, lane):
        cluster.open.set()
        await asyncio.gather(*announce(lane, 300, b"r" * 1000, beside=False))
        assert [len(batch) for batch in cluster.batches] == [100, 100, 100]

    play(story)


def test_a_batch_that_fails_announces_nothing_and_ends_its_lane():
    async def story(cluster, lane):
        cluster.failing = True
        tasks = announce(lane, 3, b"r")
        cluster.open.set()
        told = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in told] == [Unavailable] * 3 and not lane.under_way
        cluster.failing = False
        (intent,) = await asyncio.gather(*announce(lane, 1, b"r", first=9))
        before = {values[1] for name, values in cluster.batches[0] if name == "intend"}
        assert intent.sequence == 9 and {intent.lane} != before

    play(story)
