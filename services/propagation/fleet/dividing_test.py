"""A shard becomes several: each thing of it is in one of them, whoever is killed while it is divided.

The stores here are of a wiki with pages that failed, a root that waits, and one that an engine made itself.
"""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest

from services.propagation.domain.dividing import divide
from services.propagation.domain.generation import KIND, Generation, dividing, sealed
from services.propagation.domain.hearing import HEARD
from services.propagation.domain.holds import DEAD, HELD
from services.propagation.domain.interest import Interest
from services.propagation.domain.partition import Part, shard_of
from services.propagation.domain.records import ROOT, Fanout, RootRecord, read_tally
from services.propagation.domain.sequence import SequenceClock, decode
from services.propagation.fleet import ids
from services.propagation.fleet.parting import begin_part
from services.propagation.fleet.testing.wiki import BOARDS, PAGES, SOURCES, wiki
from services.propagation.store.logged.memory_log import MemoryLog, NoLongerOwner
from services.propagation.store.logged.records import Position
from services.propagation.store.logged.replica import Replica
from services.propagation.store.logged.store import LoggedStore
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed

NEXT = Generation(2, 4)
BEFORE = 2
FIRST_ONLY = ("cursor",)


async def failed(site, items):
    """Has so many leased pages fail; answers how many did."""
    count = 0
    for stubs in site.every:
        for batch in await site.executor.lease(stubs, items):
            failures = [
                work_pb2.Failure(id=int(number), reason="BROKEN", retryable=True)
                for number in packed.decode_ids(batch.ids)
            ]
            told = work_pb2.Completion(lease_id=batch.lease_id, fencing=batch.fencing, failures=failures)
            await site.executor.complete(stubs, told)
            count += len(failures)
    return count


@asynccontextmanager
async def sealed_wiki():
    """The wiki on two shards, whose logs have ended."""
    async with wiki(3, BEFORE, 1) as site, asyncio.timeout(60):
        stubs = site.every[0]
        await site.declare()
        for page in PAGES + BOARDS:
            await site.edit(page)
        await site.drained()
        every = "\0".join(PAGES).encode()
        await stubs.admin.Rerender(admin_pb2.RerenderRequest(id="listed", view="html", names=every))
        while (await stubs.admin.GetStatus(admin_pb2.GetStatusRequest())).dead_letters < len(PAGES) - 1:
            await failed(site, 1)
        # Replayed once their root is cancelled, they are of a root that the engine makes.
        await stubs.propagation.Cancel(pb.CancelRequest(id="listed"))
        some = admin_pb2.DeadLetterFilter(resource_prefix="w/page/1")
        await stubs.admin.ReplayDeadLetters(admin_pb2.ReplayDeadLettersRequest(filter=some))
        some = "\0".join(PAGES[2:6]).encode()
        await stubs.admin.Rerender(admin_pb2.RerenderRequest(id="again", view="html", names=some))
        await site.executor.round(site.every, 1)
        await failed(site, 2)
        await failed(site, 2)
        await stubs.propagation.Pause(pb.PauseRequest(id="again"))
        await site.edit(SOURCES[0])
        # What the other one renders meanwhile is told to nobody any more.
        await site.engines[0].seal(1, NEXT)
        while await site.executor.round(site.every):
            pass
        await site.engines[0].seal(0, NEXT)
        site.fleet.generations.append([MemoryLog() for _ in range(NEXT.shards)])
        yield site


class Dying(MemoryLog):
    """A log whose owner is killed after so many commits."""

    def __init__(self, commits):
        super().__init__()
        self.commits = commits

    def take_over(self, position):
        owned = super().take_over(position)
        append = owned.append

        def counted(*commit):
            if not self.commits:
                owned.fence()
                raise NoLongerOwner("killed")
            self.commits -= 1
            return append(*commit)

        owned.append = counted
        return owned


async def divided(site, log, number):
    """The store of a new shard out of what its log has, divided as far as the log lets it."""
    below, _ = site.fleet.store(number * BEFORE // NEXT.shards, 0)
    below.write(begin_part(below, BEFORE))
    replica = Replica(below)
    for offset, record in enumerate(log.records):
        replica.take(offset, record)
    last = replica.caught_up()
    position = Position(last.epoch + 1, last.number)
    store = LoggedStore(below, log.take_over(position), position)
    await divide(store, Part(number, NEXT.shards), NEXT, FIRST_ONLY)
    return below


def told(store):
    """All that a store has, but for the place in its log."""
    state = store.state
    numbers = np.arange(store.resource_count, dtype=np.uint32)
    columns = [
        read(view, numbers).tobytes()
        for view in sorted(store.views.values())
        for read in (store.rendered_at, store.output_changed_at, store.hashes)
    ]
    records = {kind: found for kind, found in state.records.items() if kind != "log" and found}
    return (state.names, edges(store), columns, state.changes, records, store.edge_count)


def edges(store):
    """{(view, dependent): its inputs}."""
    return {key: tuple(found.tolist()) for key, found in store.state.forward.items() if len(found)}


def of(store, kind):
    return dict(store.records(kind))


def test_each_thing_of_a_shard_is_in_one_of_those_that_it_becomes():
    async def main():
        async with sealed_wiki() as site:
            late = 0
            for parent in range(BEFORE):
                before, _ = site.fleet.store(parent, 0)
                numbers = range(2 * parent, 2 * parent + 2)
                parts = {number: await divided(site, MemoryLog(), number) for number in numbers}
                late += check_parted(before, parts, parent)
            assert late

    asyncio.run(main())


def check_parted(before, parts, parent):
    """Answers how many roots the engine had made itself."""
    name = before.state.names
    for number, store in parts.items():
        assert dividing(store) is None and sealed(store) is None and sealed(before) is not None
        assert all(shard_of(name[item].decode(), 4) == number for _, item in edges(store))
        assert {key: inputs for key, inputs in edges(before).items() if key in edges(store)} == edges(store)
        clock = SequenceClock(store)
        assert clock.last >= NEXT.first_sequence > SequenceClock(before).last
        for kind in (HELD, DEAD):
            assert of(store, kind).items() <= of(before, kind).items()
            assert all(shard_of(name[int.from_bytes(key[2:], "big")].decode(), 4) == number for key in of(store, kind))
        every = np.array(sorted(name), np.uint32)
        for view in store.views.values():
            rendered = every[store.rendered_at(view, every) > 0].tolist()
            assert all(shard_of(name[item].decode(), 4) == number for item in rendered)
        for key in of(store, ROOT):
            mine = [one for one in Fanout.of(store, decode(key)) if one.listed]
            assert all(shard_of(name[item].decode(), 4) == number for one in mine for item in one.inputs.tolist())
    assert sum(len(edges(store)) for store in parts.values()) == len(edges(before)) > 10
    for kind in (HELD, DEAD):
        assert sum(len(of(store, kind)) for store in parts.values()) == len(of(before, kind)) > 0, kind
    late = 0
    for key, value in before.records(ROOT):
        sequence = decode(key)
        was, tallies = read_tally(before, sequence), [read_tally(store, sequence) for store in parts.values()]
        assert sum(one.done for one in tallies) == was.done
        assert sum(one.changed + one.unchanged for one in tallies) == was.changed + was.unchanged
        record = RootRecord.unpack(key, value)
        if record.state.finished:
            assert sum(one.total for one in tallies) == was.total and sum(one.failed for one in tallies) == was.failed
        names = {RootRecord.unpack(key, store.get_record(ROOT, key)).change.id for store in parts.values()}
        assert names == {ids.change_told(parent, record.change.id)}, "by the id by which it was told before"
        late += record.by_engine and record.change.id.startswith("late/")
    check_links(before, parts, parent)
    return late


def check_links(before, parts, parent):
    """What was heard of a shard was heard of each that it became, and what it was still to be told these are told."""
    other = 1 - parent
    heard = before.get_record(HEARD, bytes([other]))
    untold = [one for shard, one in Interest(before).every() if shard == other]
    assert heard is not None and bool(untold) == (parent == 0)
    for store in parts.values():
        assert of(store, HEARD) == {bytes([2 * other]): heard, bytes([2 * other + 1]): heard}
    for child in (2 * other, 2 * other + 1):
        told = [one for store in parts.values() for shard, one in Interest(store).every() if shard == child]
        assert sorted((one.number, item) for one in told for item in one.items) == sorted(
            (one.number, item) for one in untold for item in one.items
        )
        parted = {(one.number, part.root, item) for one in told for part in one.parts for item in part.items}
        assert parted == {(one.number, part.root, item) for one in untold for part in one.parts for item in part.items}


@pytest.mark.parametrize("number", [1, 2])
def test_whoever_is_killed_while_a_shard_is_divided_another_one_ends_with_the_same(number):
    async def main():
        async with sealed_wiki() as site:
            wanted = told(await divided(site, MemoryLog(), number))
            for commits in range(100):
                log = Dying(commits)
                try:
                    await divided(site, log, number)
                    break
                except NoLongerOwner:
                    log.commits = 1_000
                store = await divided(site, log, number)
                assert told(store) == wanted, commits
                assert KIND not in told(store)[4]
            assert commits > 6, "it was killed at each"

    asyncio.run(main())
