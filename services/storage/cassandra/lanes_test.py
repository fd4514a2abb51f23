"""Intents go in order, many at once, with the rows beside them: as many as a batch of several partitions may hold."""

import asyncio

import pytest

from libs.errors.errors import Unavailable
from services.storage.cassandra.announced import changes, packed
from services.storage.cassandra.lanes import Lane

WARNED_BYTES = 5 * 1024
"""From which size on Cassandra warns of a batch of several partitions (``batch_size_warn_threshold``)."""


class Cluster:
    """A session and its statements; of each batch it keeps the writes. Batches wait until ``open`` is set."""

    options = type("Options", (), {"local_datacentre": "dc1"})()

    def __init__(self):
        self.write = {
            name: name for name in ("lane", "slot", "intend", "intend_many", "settle", "settle_many", "tell", "index")
        }
        self.batches = []
        self.open = asyncio.Event()
        self.asked = asyncio.Event()
        self.failing = False

    async def execute(self, statement, values, consistency):
        return []

    async def batch(self, writes, consistency):
        self.batches.append(list(writes))
        self.asked.set()
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


def test_many_are_announced_by_one_row_and_settled_by_one_value():
    async def story(cluster, lane):
        cluster.open.set()
        before = announce(lane, 2, b"r", beside=False)
        many = lane.announce_many(7, [b"a", b"b", b"c"], [b"token"])
        after = announce(lane, 1, b"r", beside=False, first=8)
        row = await lane.write(many)
        await asyncio.gather(*before, *after)
        written = [write for batch in cluster.batches for write in batch]
        assert [(name, values[3]) for name, values in written] == [
            ("intend", 1),
            ("intend", 2),
            ("intend_many", 7),
            ("intend", 8),
        ]
        assert {(row.lane, sequence) for sequence in (1, 2, 5, 6, 7, 8)} == lane.under_way
        assert (row.sequence, row.row, row.token) == (7, 7, b"token")
        cluster.batches.clear()
        await lane.settle_some([[(row._replace(sequence=6), b"B"), (row, b"C")], [(after[0].result(), b"D")]])
        ((many_settled, (value, *place)), (one_settled, _)) = cluster.batches[0]
        assert (many_settled, one_settled, place[-1]) == ("settle_many", "settle", 7)
        (first, second, third) = changes((7, None, None, None, packed([b"a", b"b", b"c"]), b"token", value, None))
        assert (first.event, second.event, third.event) == (None, b"B", b"C")
        lane.forget(row)
        assert lane.settled(row.lane, 7) and not lane.settled(row.lane, 5)

    play(story)


def test_what_is_beside_many_has_arrived_with_their_row():
    async def story(cluster, lane):
        beside = [("index", (1, 0, name, 7)) for name in (b"a", b"b", b"c")]
        row = lane.announce_many(7, [b"a", b"b", b"c"], [b"token"], beside)
        behind = announce(lane, 1, b"r" * 4000, first=8)
        writing = asyncio.create_task(lane.write(row))
        await cluster.asked.wait()
        assert not row.done()
        cluster.open.set()
        await asyncio.gather(writing, *behind)
        first, second = cluster.batches
        assert [name for name, _ in first] == ["intend_many", "index", "index", "index"] and first[1:] == beside
        assert [name for name, _ in second] == ["intend", "index"], "one batch would be too large"

    play(story)


def test_many_that_could_not_be_announced_are_not_under_way():
    async def story(cluster, lane):
        cluster.failing = True
        cluster.open.set()
        with pytest.raises(Unavailable):
            await lane.write(lane.announce_many(7, [b"a", b"b", b"c"], [b"token"]))
        assert not lane.under_way

    play(story)
