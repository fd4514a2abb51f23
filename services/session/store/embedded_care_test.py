"""Housekeeping of the embedded store lets calls in between, and looks at no more than it is told to."""

import asyncio
from pathlib import Path

from services.session.store import layout
from services.session.store.embedded import EmbeddedStore


async def turns_of(work: asyncio.Task[int]) -> int:
    """How often somebody else had the loop while the work was done."""
    turns = 0
    while not work.done():
        turns += 1
        await asyncio.sleep(0)
    return turns


def test_keys_of_nobody_go_in_small_steps_and_as_many_as_are_asked_for(tmp_path: Path) -> None:
    async def story() -> None:
        store = EmbeddedStore.open(tmp_path)
        try:
            batch = store._keys.batch()
            for number in range(1_030):
                batch.put(store._key_family, layout.subject_key("web", b"%032d" % number), b"\1sealed")
            await store._keys.commit(batch)
            for limit, expected in ((830, 830), (150, 150), (1, 1), (400, 49), (400, 0)):
                work = asyncio.create_task(store.prune(1_000, limit))
                turns = await turns_of(work)
                assert work.result() == expected
                assert turns >= expected // 100, "a long step kept calls out"
            assert list(store._key_family.scan()) == []
        finally:
            await store.close()

    asyncio.run(story())
