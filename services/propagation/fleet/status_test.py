"""What the status tells of the snapshots of each shard, whichever engine is asked."""

import asyncio

from services.propagation.fleet.testing.serving import Fleet, serving
from services.propagation.sharded import reading
from services.propagation.sharded.snapshots.rig import HOUR_S, MemoryConsumer, World, always, put, until
from services.propagation.sharded.snapshots.shelf import ShelfAway
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2


def test_the_snapshots_of_every_shard_are_told_by_whoever_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "Consumer", MemoryConsumer)

    async def main():
        world = World(tmp_path)
        kept = world.snapshots()
        store, embedded = await world.leading("a", kept)
        fleet = Fleet(3)
        async with serving(fleet, [0]) as one, serving(fleet) as other:
            other.snapshots = {1: kept}
            for shard in (1, 2):
                await other.lead(shard)

            async def told():
                answers = [await engine.stubs.admin.GetStatus(admin_pb2.GetStatusRequest()) for engine in (one, other)]
                assert answers[0].snapshots == answers[1].snapshots
                (found,) = answers[0].snapshots
                assert found.shard == 1
                return found

            found = await told()
            assert not found.HasField("newest_time") and found == admin_pb2.ShardSnapshots(
                shard=1, waiting=found.waiting
            )
            for key in range(5):
                await put(store, key)
            world.hands.failure, world.hands.ends_at = ShelfAway("storage is away"), 0
            keeping = asyncio.create_task(kept.keep(embedded, tmp_path / "copied", always, leads=True))
            await until(lambda: kept.failures)
            world.clock.now_s += HOUR_S
            found = await told()
            assert (found.error, found.waiting.seconds, found.size_bytes) == ("storage is away", HOUR_S, 0)
            world.hands.ends_at = None
            await until(lambda: kept.newest is not None)
            for key in range(2):
                await put(store, key)
            world.clock.now_s += 2 * HOUR_S
            await until(lambda: kept.log_begins_at)
            keeping.cancel()
            await asyncio.wait([keeping])
            for key in range(2):
                await put(store, key)
            await kept.turn(embedded, tmp_path / "copied", always, leads=True)
            world.clock.now_s += 60
            found = await told()
            assert (found.error, found.waiting.seconds) == ("", 60)
            assert found.newest_time.seconds == kept.newest.written_s
            assert found.size_bytes == kept.newest.size_bytes > 0
            assert found.log_begins_at == world.log.begins_at > 0
        await store.close()

    asyncio.run(main())
