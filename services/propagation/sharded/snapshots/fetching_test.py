"""What an engine begins with: the newest snapshot that is good, an older one, the log; or with why none helps."""

import asyncio
import shutil
from functools import partial

import pytest

from services.propagation.sharded import following as following_module
from services.propagation.sharded import reading
from services.propagation.sharded.reading import CutOff
from services.propagation.sharded.snapshots import manifest
from services.propagation.sharded.snapshots.rig import HOUR_S, MemoryConsumer, World, always, kept, put, until
from services.propagation.sharded.snapshots.shelf import ShelfAway, ShelfRefused


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(reading, "Consumer", MemoryConsumer)
    monkeypatch.setattr(manifest, "PART_BYTES", 16 << 10)
    monkeypatch.setattr(following_module, "_AGAIN_S", 0.001)


async def led(world, name="a", count=3):
    """An engine that leads, with so many snapshots behind it and commits after the last."""
    snapshots = world.snapshots()
    store, embedded = await world.leading(name, snapshots)
    for _ in range(count):
        await more(world, store, embedded, snapshots)
    for _ in range(5):
        await put(store, store.position.number)
    return store, embedded, snapshots


async def more(world, store, embedded, snapshots):
    """Ten commits and a snapshot."""
    for _ in range(10):
        await put(store, store.position.number)
    world.clock.now_s += 2 * HOUR_S
    await snapshots.turn(embedded, world.path / "copied", always, leads=True)


def has_newer(world, names):
    return world.shelf.kept.keys() - names


def flip(world, name):
    content = bytearray(world.shelf.parts[name, 1])
    content[100] ^= 1
    world.shelf.parts[name, 1] = bytes(content)


def lose(world, name):
    del world.shelf.parts[name, 0]


def shorten(world, name):
    world.shelf.parts[name, 1] = world.shelf.parts[name, 1][:-1]


def spoil(world, name):
    world.shelf.kept[name] = world.shelf.kept[name][:-2]


def of_another_release(world, name):
    one = manifest.parse(world.shelf.kept[name], name)
    given = manifest.Manifest(one.anchor, one.topic, 0.0, one.files, one.part_bytes, one.parts, store_version=99)
    world.shelf.kept[name] = given.packed()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (flip, "part 1 is damaged"),
        (lose, "part 0 is missing"),
        (shorten, "part 1 is damaged"),
        (spoil, "manifest is damaged"),
        (of_another_release, "is of another release"),
    ],
)
def test_a_snapshot_that_is_no_good_is_named_and_the_older_one_used(tmp_path, caplog, harm, says):
    async def main():
        world = World(tmp_path)
        store, embedded, _ = await led(world)
        older, newest = sorted(world.shelf.kept)
        harm(world, newest)
        assert await world.read("b") == kept(embedded)
        assert f"{newest}" in caplog.text and says in caplog.text
        # With neither of them, the log is not enough.
        harm(world, older)
        with pytest.raises(CutOff, match=f"No snapshot in the shelf helps: .*{says}.*; .*{says}"):
            await world.read("c")
        with pytest.raises(CutOff, match=says):
            await world.read("c")
        # An engine that has its own store needs none.
        assert await world.read("b") == kept(embedded)
        await store.close()

    asyncio.run(main())


def test_a_log_that_is_whole_needs_no_snapshot(tmp_path):
    async def main():
        world = World(tmp_path)
        store, embedded, _ = await led(world, count=1)
        [name] = world.shelf.kept
        flip(world, name)
        assert await world.read("b") == kept(embedded)
        world.hands.failure, world.hands.ends_at = ShelfAway("storage is away"), 0
        assert await world.read("c") == kept(embedded)
        world.hands.failure = ShelfRefused("no such namespace")
        with pytest.raises(ShelfRefused, match="no such namespace"):
            await world.read("d")
        await store.close()

    asyncio.run(main())


def test_a_new_engine_waits_for_the_snapshots_without_which_it_has_a_hole(tmp_path):
    async def main():
        world = World(tmp_path)
        store, embedded, _ = await led(world)
        world.hands.failure, world.hands.ends_at = ShelfAway("storage is away"), 0
        asked = []
        entries = world.shelf.entries

        async def counted():
            asked.append(1)
            return await entries()

        world.shelf.entries = counted
        reads = asyncio.create_task(world.read("b"))
        await until(lambda: len(asked) > 3)
        assert not reads.done()
        world.hands.ends_at = None
        assert await reads == kept(embedded)
        await store.close()

    asyncio.run(main())


def test_a_follower_that_fell_behind_the_log_takes_a_snapshot_and_goes_on(tmp_path):
    async def main():
        world = World(tmp_path)
        snapshots = world.snapshots()
        store, embedded = await world.leading("a", snapshots)
        following = await world.following("b")
        await put(store, 0)
        await following.read_to_end()
        assert len(kept(following.embedded)) == 1
        # It stands still while the log is trimmed, then goes on as it was.
        for _ in range(3):
            await more(world, store, embedded, snapshots)
        async with asyncio.timeout(60):
            await following.follow(lambda: kept(following.embedded) == kept(embedded))
            await put(store, 99)
            await following.follow(lambda: len(kept(following.embedded)) == 32)
        # Without any snapshot it says so, and has nothing to serve.
        for _ in range(3):
            await more(world, store, embedded, snapshots)
        world.shelf.kept.clear()
        with pytest.raises(CutOff, match="No snapshot in the shelf helps: there is none"):
            await following.catch_up()
        assert not kept(following.embedded)
        await following.close()
        await store.close()

    asyncio.run(main())


def test_a_store_that_is_ahead_goes_back_to_a_snapshot_where_it_has_no_checkpoint(tmp_path):
    async def main():
        world = World(tmp_path)
        store, embedded, _ = await led(world)
        await store.close()
        shutil.copytree(tmp_path / "a", tmp_path / "other")
        # Killed with a commit that the log has not; another one leads.
        world.log.automatic = False
        store, embedded = await world.leading("a")
        put(store, 77)
        await embedded.close()
        second, now = await world.leading("other")
        world.log.automatic = True
        await put(second, 88)
        assert await world.read("a") == kept(now)
        assert {b"%06d" % 77, b"%06d" % 88} & kept(now).keys() == {b"%06d" % 88}
        await second.close()

    asyncio.run(main())


def test_a_snapshot_of_which_the_log_has_no_rest_is_passed_over(tmp_path):
    async def main():
        world = World(tmp_path)
        store, embedded, _ = await led(world)
        older, newest = sorted(world.shelf.kept)
        newest_at = manifest.parse(world.shelf.kept[newest], newest).anchor.offset
        # Somebody cut the log by hand.
        world.log.trim(newest_at)
        assert await world.read("b") == kept(embedded)
        flip(world, newest)
        with pytest.raises(CutOff, match=f"No snapshot in the shelf helps: .*{newest}"):
            await world.read("c")
        world.log.trim(len(world.log.records) - 1)
        with pytest.raises(CutOff):
            await world.read("d")
        await store.close()

    asyncio.run(main())


def test_a_follower_makes_snapshots_while_it_follows(tmp_path):
    async def main():
        world = World(tmp_path)
        store, embedded = await world.leading("a")
        following = await world.following("b")
        ended = []
        follows = asyncio.create_task(following.follow(lambda: bool(ended)))
        for _ in range(4):
            for _ in range(5):
                await put(store, store.position.number)
            world.clock.now_s += 1.1 * HOUR_S
            await until(partial(has_newer, world, set(world.shelf.kept)))
        await until(lambda: world.log.begins_at)
        ended.append(1)
        await follows
        await following.close()
        assert not (tmp_path / "b" / "shard-0.snapshot").exists()
        assert await world.read("c") == kept(embedded)
        await store.close()

    asyncio.run(main())


def test_what_ends_the_making_of_snapshots_ends_the_following(tmp_path):
    async def main():
        world = World(tmp_path)
        store, _ = await world.leading("a")
        following = await world.following("b")

        async def broken(*_, **__):
            raise RuntimeError("a defect")

        following._directory.snapshots.turn = broken
        with pytest.raises(RuntimeError, match="a defect"):
            await following.follow(lambda: False)
        await following.close()
        await store.close()

    asyncio.run(main())
