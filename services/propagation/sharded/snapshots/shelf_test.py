"""Shelves are alike: the one in memory, that tests fail at will, and the storage service with a real server."""

import asyncio

import pytest

import wellspring_client.aio
from services.propagation.sharded import reading
from services.propagation.sharded.snapshots import manifest
from services.propagation.sharded.snapshots.rig import (
    HOUR_S,
    Hands,
    MemoryConsumer,
    MemoryShelf,
    World,
    always,
    kept,
    put,
)
from services.propagation.sharded.snapshots.shelf import ShelfAway, ShelfRefused
from services.propagation.sharded.snapshots.storage_shelf import StorageShelf
from services.propagation.simulation.processes import Process


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    process = Process(tmp_path_factory.mktemp("storage") / "data")
    process.command[2] = "services.storage.main"
    process.start()
    yield process
    process.kill()


def on_shelf(kind, storage, body):
    async def main():
        if kind == "memory":
            await body(MemoryShelf(Hands()))
            return
        async with wellspring_client.aio.connect(storage=storage.address, timeout=60.0) as client:
            await client.storage.create_namespace("shelf")
            await body(StorageShelf(client.storage.namespace("shelf"), "log/0"))
            assert "namespace shelf" in StorageShelf(client.storage.namespace("shelf"), "log/0").place

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["memory", "storage"])
def test_entries_are_sorted_and_parts_come_back_as_they_were(kind, storage):
    async def body(shelf):
        big = bytes(range(256)) * 12_000
        for name in ("b", "c", "a"):
            await shelf.put_entry(name, name.encode())
            await shelf.put_part(name, 0, name.encode() * 3)
        await shelf.put_entry("b", b"again")
        await shelf.put_part("b", 1, big)
        assert list((await shelf.entries()).items()) == [("a", b"a"), ("b", b"again"), ("c", b"c")]
        assert await shelf.part("b", 1) == big
        assert await shelf.part("b", 0) == b"bbb"
        assert await shelf.part("b", 2) is None and await shelf.part("x", 0) is None
        for _ in range(2):
            await shelf.remove_part("b", 1)
            await shelf.remove_entry("c")
        assert await shelf.part("b", 1) is None
        assert await shelf.part("c", 0) == b"ccc"
        assert list(await shelf.entries()) == ["a", "b"]

    on_shelf(kind, storage, body)


def test_what_the_storage_service_says_is_told_in_a_shelf_s_words(storage):
    async def main():
        async with wellspring_client.aio.connect(storage=storage.address, timeout=60.0) as client:
            missing = StorageShelf(client.storage.namespace("nowhere"), "log/0")
            for call in (missing.entries(), missing.put_entry("a", b""), missing.put_part("a", 0, b"x")):
                with pytest.raises(ShelfRefused, match=r"the namespace nowhere, record log/0.*nowhere"):
                    await call
        async with wellspring_client.aio.connect(storage="127.0.0.1:1", timeout=0.5) as client:
            away = StorageShelf(client.storage.namespace("shelf"), "log/0")
            for call in (away.entries(), away.part("a", 0), away.remove_entry("a")):
                with pytest.raises(ShelfAway, match="does not do it now"):
                    await call

    asyncio.run(main())


def test_an_engine_begins_with_what_the_storage_service_has(storage, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "Consumer", MemoryConsumer)
    monkeypatch.setattr(manifest, "PART_BYTES", 64 << 10)

    async def main():
        async with wellspring_client.aio.connect(storage=storage.address, timeout=60.0) as client:
            await client.storage.create_namespace("snapshots")
            world = World(tmp_path)
            world.shelf = StorageShelf(client.storage.namespace("snapshots"), "log/0")
            snapshots = world.snapshots()
            store, embedded = await world.leading("a", snapshots)
            for _ in range(4):
                for _ in range(10):
                    await put(store, store.position.number)
                world.clock.now_s += 2 * HOUR_S
                await snapshots.turn(embedded, tmp_path / "copied", always, leads=True)
            assert world.log.begins_at > 20
            assert await world.read("b") == kept(embedded)
            entries = await world.shelf.entries()
            assert len(entries) == 2
            records = [one.key async for one in client.storage.namespace("snapshots").scan(omit_values=True)]
            parts = sum(manifest.parse(packed, name).part_count for name, packed in entries.items())
            assert len(records) == parts + 1, "what is no snapshot's any more is removed"
            await store.close()

    asyncio.run(main())
