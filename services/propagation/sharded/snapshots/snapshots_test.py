"""Snapshots are made and removed, and the log is trimmed: whatever is killed, what was acknowledged is made again."""

import asyncio
import itertools

import pytest

from libs.errors.errors import WellspringError
from libs.kafka.errors import TopicUnfit
from services.propagation.sharded import reading
from services.propagation.sharded.snapshots import manifest
from services.propagation.sharded.snapshots.manifest import SnapshotDamaged, parse
from services.propagation.sharded.snapshots.metrics import SnapshotsCollector
from services.propagation.sharded.snapshots.rig import (
    HOUR_S,
    Killed,
    MemoryConsumer,
    World,
    always,
    kept,
    put,
    until,
)
from services.propagation.sharded.snapshots.shelf import ShelfAway
from services.propagation.sharded.topic import LogTopic


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(reading, "Consumer", MemoryConsumer)
    monkeypatch.setattr(manifest, "PART_BYTES", 32 << 10)


async def turn(world, snapshots, embedded, *, leads=True, prove=always):
    await snapshots.turn(embedded, world.path / "copied", prove, leads=leads)


async def written(world, store, embedded, snapshots, count):
    """So many snapshots, with commits before each; answers all keys."""
    for _ in range(count):
        for _ in range(10):
            await put(store, store.position.number)
        world.clock.now_s += 2 * HOUR_S
        await turn(world, snapshots, embedded)
    return kept(embedded)


def manifests(world):
    return {name: parse(packed, name) for name, packed in sorted(world.shelf.kept.items())}


def assert_tidy(world):
    """Two whole snapshots, all of their parts and nothing else; the log begins at the older one's place."""
    found = list(manifests(world).items())
    assert [one.whole for _, one in found] == [True, True]
    assert {(name, at) for name, one in found for at in range(one.part_count)} == world.shelf.parts.keys()
    assert world.log.begins_at == found[0][1].anchor.offset
    assert not (world.path / "copied").exists()


def test_a_new_engine_begins_with_the_newest_snapshot_and_the_log_is_as_long_as_two_of_them(tmp_path):
    async def main():
        world = World(tmp_path)
        snapshots = world.snapshots()
        store, embedded = await world.leading("a", snapshots)
        await written(world, store, embedded, snapshots, 1)
        assert world.log.begins_at == 0, "one snapshot is not enough to remove anything"
        await written(world, store, embedded, snapshots, 4)
        assert_tidy(world)
        assert world.trimmed == sorted(world.trimmed) and len(world.trimmed) == 4
        for _ in range(5):
            await put(store, store.position.number)
        following = await world.following("b")
        assert len(kept(following.embedded)) >= 49, "what the log does not tell it any more, and more"
        await following.catch_up()
        assert kept(following.embedded) == kept(embedded) and len(kept(embedded)) == 55
        await following.close()
        # What was begun goes on where it was, and asks for no snapshot.
        world.hands.ends_at = 0
        assert len(await world.read("b")) == 55
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(("failure", "stride"), [(Killed(), 1), (ShelfAway("storage is away"), 6)])
def test_whatever_step_is_the_last_one_nothing_is_lost(tmp_path, failure, stride):
    async def main():
        world = World(tmp_path)
        snapshots = world.snapshots()
        store, embedded = await world.leading("a", snapshots)
        await written(world, store, embedded, snapshots, 2)
        world.hands.failure = failure
        for step in itertools.count(0, stride):
            for _ in range(3):
                await put(store, store.position.number)
            world.clock.now_s += 2 * HOUR_S
            world.hands.ends_at = world.hands.done + step
            ended = False
            try:
                await turn(world, snapshots, embedded)
            except (Killed, ShelfAway):
                ended = True
            world.hands.ends_at = None
            # Another machine, now.
            assert await world.read(f"new{step}") == kept(embedded)
            # The engine that goes on, or the next, makes it good.
            snapshots = world.snapshots()
            for _ in range(2):
                await put(store, store.position.number)
                world.clock.now_s += 2 * HOUR_S
                await turn(world, snapshots, embedded)
            assert_tidy(world)
            if not ended:
                break
        assert step > 12, "there were as many steps"
        assert await world.read("newest") == kept(embedded)
        await store.close()

    asyncio.run(main())


def test_an_engine_that_could_not_end_a_snapshot_removes_it_and_begins_again(tmp_path):
    async def main():
        world = World(tmp_path)
        snapshots = world.snapshots()
        store, embedded = await world.leading("a", snapshots)
        await written(world, store, embedded, snapshots, 2)
        world.clock.now_s += 2 * HOUR_S
        world.hands.failure = ShelfAway("storage is away")
        for steps in (4, 6, 8):
            await put(store, store.position.number)
            world.hands.ends_at = world.hands.done + steps
            with pytest.raises(ShelfAway):
                await turn(world, snapshots, embedded)
            assert [one.whole for one in manifests(world).values()] == [True, True, False]
        world.hands.ends_at = None
        await turn(world, snapshots, embedded)
        assert_tidy(world)
        assert manifests(world).popitem()[1].written_s == world.clock.now_s
        await store.close()

    asyncio.run(main())


def test_a_start_that_is_killed_while_a_snapshot_comes_leaves_nothing_half(tmp_path):
    async def main():
        world = World(tmp_path)
        snapshots = world.snapshots()
        store, embedded = await world.leading("a", snapshots)
        await written(world, store, embedded, snapshots, 3)
        step = 0
        while True:
            world.hands.ends_at = world.hands.done + step
            try:
                await world.read(f"b{step % 2}")
                break
            except Killed:
                assert not (tmp_path / f"b{step % 2}" / "shard-0").exists()
            step += 1
        assert step > 3
        world.hands.ends_at = None
        assert await world.read("b0") == await world.read("b1") == kept(embedded)
        await store.close()

    asyncio.run(main())


def test_two_that_write_at_once_each_do_what_they_would_alone(tmp_path):
    async def main():
        world = World(tmp_path)
        first, second = world.snapshots(), world.snapshots()
        second._rng.seed(99)
        store, embedded = await world.leading("a", first)
        await written(world, store, embedded, first, 2)
        following = await world.following("b", second)
        await following.catch_up()
        for _ in range(3):
            await put(store, store.position.number)
            await following.catch_up()
            world.clock.now_s += 2 * HOUR_S
            await asyncio.gather(
                turn(world, first, embedded),
                second.turn(following.embedded, world.path / "other", always, leads=False),
            )
            assert await world.read(f"c{len(world.trimmed)}") == kept(embedded)
        for _ in range(2):
            await put(store, store.position.number)
            world.clock.now_s += 2 * HOUR_S
            await turn(world, first, embedded)
        assert_tidy(world)
        await following.close()
        await store.close()

    asyncio.run(main())


def test_a_follower_writes_when_the_interval_is_over_and_a_leader_when_nobody_did(tmp_path):
    async def main():
        world = World(tmp_path)
        snapshots = world.snapshots()
        store, embedded = await world.leading("a", snapshots)
        await turn(world, snapshots, embedded)
        assert not world.shelf.kept, "nothing is to be kept yet"
        await written(world, store, embedded, snapshots, 1)

        async def writes(leads):
            before = set(world.shelf.kept)
            await turn(world, world.snapshots(), embedded, leads=leads)
            return world.shelf.kept.keys() - before

        world.clock.now_s += 9 * HOUR_S
        await put(store, store.position.number)
        await put(store, store.position.number)
        world.clock.now_s = manifests(world).popitem()[1].written_s + 0.9 * HOUR_S
        assert not await writes(False)
        world.clock.now_s += 0.2 * HOUR_S
        assert not await writes(True)
        assert await writes(False)
        world.clock.now_s += 9 * HOUR_S
        assert not await writes(True) and not await writes(False), "nothing is newer"
        await put(store, store.position.number)
        await put(store, store.position.number)
        # Somebody has begun.
        world.hands.ends_at = world.hands.done + 4
        with pytest.raises(Killed):
            await writes(False)
        world.hands.ends_at = None
        assert not await writes(True)
        world.clock.now_s += HOUR_S
        assert await writes(True)
        await store.close()

    asyncio.run(main())


def test_a_store_that_may_be_ahead_of_its_log_is_no_snapshot(tmp_path):
    async def main():
        world = World(tmp_path)
        world.log.automatic = False
        snapshots = world.snapshots()
        store, embedded = await world.leading("a", snapshots)
        for _ in range(5):
            put(store, store.position.number)
            world.log.owner.sync()
        put(store, store.position.number)
        # It is killed before the log has the last one, and begins again as a follower.
        await embedded.close()
        directory = world.directory("a", snapshots)
        again = await directory.open()
        assert len(kept(again)) == 6
        proofs = reading.Replica(again)

        async def proven():
            return proofs.proven

        await turn(world, snapshots, again, prove=proven)
        assert not world.shelf.kept
        # The log goes on to all but that one: it could be still to come.
        for offset in range(proofs.begins_at, len(world.log.records)):
            proofs.take(offset, world.log.records[offset])
        await turn(world, snapshots, again, prove=proven)
        assert not world.shelf.kept
        await again.close()

    asyncio.run(main())


def test_a_leader_that_loses_its_shard_meanwhile_writes_nothing(tmp_path):
    async def main():
        world = World(tmp_path)
        snapshots = world.snapshots()
        store, embedded = await world.leading("a", snapshots)
        for _ in range(5):
            await put(store, store.position.number)
        asked = []

        async def prove():
            asked.append(len(world.shelf.kept))
            if len(asked) == 2:
                world.log.owner.fence()
            world.log.owner.check(0)
            return True

        with pytest.raises(WellspringError, match="another engine owns"):
            await turn(world, snapshots, embedded, prove=prove)
        assert asked == [0, 0] and not world.shelf.kept
        await embedded.close()

    asyncio.run(main())


def test_snapshots_of_another_log_are_neither_used_nor_removed(tmp_path):
    async def main():
        world = World(tmp_path)
        snapshots = world.snapshots()
        store, embedded = await world.leading("a", snapshots)
        await written(world, store, embedded, snapshots, 2)
        before = dict(world.shelf.kept)
        foreign = world.snapshots(LogTopic("log", b"cluster/8"))
        with pytest.raises(TopicUnfit, match="of another log"):
            await foreign.turn(embedded, tmp_path / "copied", always, leads=True)
        with pytest.raises(TopicUnfit, match="name another namespace"):
            await world.following("b", foreign)
        assert world.shelf.kept == before
        await store.close()

    asyncio.run(main())


def test_a_part_that_comes_back_as_another_one_makes_no_snapshot(tmp_path):
    async def main():
        world = World(tmp_path)
        snapshots = world.snapshots()
        store, embedded = await world.leading("a", snapshots)
        for _ in range(5):
            await put(store, store.position.number)
        whole = world.shelf.put_part

        async def torn(name, at, content):
            await whole(name, at, content[:-1] if at == 1 else content)

        world.shelf.put_part = torn
        with pytest.raises(SnapshotDamaged, match="part 1 does not come back"):
            await turn(world, snapshots, embedded)
        assert [one.whole for one in manifests(world).values()] == [False]
        assert len(await world.read("b")) == 5
        await store.close()

    asyncio.run(main())


def test_what_is_kept_up_is_told_in_metrics(tmp_path):
    async def main():
        world = World(tmp_path)
        snapshots = world.snapshots()
        store, embedded = await world.leading("a", snapshots)

        def told():
            return {
                sample.name.removeprefix("wellspring_propagation_"): sample.value
                for family in SnapshotsCollector({3: snapshots}).collect()
                for sample in family.samples
                if sample.labels == {"shard": "3"}
            }

        assert told()["snapshot_age_seconds"] == 0
        for _ in range(5):
            await put(store, store.position.number)
        world.hands.failure, world.hands.ends_at = ShelfAway("storage is away"), 0
        keeping = asyncio.create_task(snapshots.keep(embedded, tmp_path / "copied", always, leads=True))
        await until(lambda: snapshots.failures)
        assert snapshots.error == "storage is away"
        world.clock.now_s += HOUR_S
        assert told()["snapshot_age_seconds"] == HOUR_S
        world.hands.ends_at = None
        await until(lambda: snapshots.newest is not None)
        for _ in range(2):
            await put(store, store.position.number)
        world.clock.now_s += 2 * HOUR_S
        await until(lambda: world.trimmed)
        await until(lambda: told()["log_begins_at"] == world.log.begins_at)
        keeping.cancel()
        await asyncio.wait([keeping])
        found = told()
        assert found["snapshot_age_seconds"] == 0
        assert found["snapshot_bytes"] == snapshots.newest.size_bytes > 0
        assert found["snapshot_interval_seconds"] == HOUR_S
        assert found["snapshot_failures_total"] >= 1 and snapshots.error == ""
        await store.close()

    asyncio.run(main())


def test_what_is_no_manifest_or_leads_out_of_the_directory_is_refused(tmp_path):
    async def main():
        world = World(tmp_path)
        snapshots = world.snapshots()
        store, embedded = await world.leading("a", snapshots)
        await written(world, store, embedded, snapshots, 1)
        await store.close()
        [(name, packed)] = world.shelf.kept.items()
        for at in range(0, len(packed), 7):
            flipped = bytearray(packed)
            flipped[at] ^= 1
            with pytest.raises(SnapshotDamaged):
                parse(bytes(flipped), name)
        one = parse(packed, name)
        for wrong in ("../x", "/x", "a/../../x", ""):
            given = type(one)(one.anchor, one.topic, 0.0, ((wrong, 1),), 1)
            with pytest.raises(SnapshotDamaged):
                parse(given.packed(), name)

    asyncio.run(main())
