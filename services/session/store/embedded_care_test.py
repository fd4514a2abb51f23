"""Housekeeping of the embedded store lets calls in between, and looks at no more than it is told to."""

import asyncio
from pathlib import Path

from services.session.domain.model import Created, Session
from services.session.store import codec, layout
from services.session.store.embedded import EmbeddedStore
from services.session.store.interface import End, SubjectKey


async def turns_of(work: asyncio.Task[int]) -> int:
    """How often somebody else had the loop while the work was done."""
    turns = 0
    while not work.done():
        turns += 1
        await asyncio.sleep(0)
    return turns


async def keep(store: EmbeddedStore, handle: str) -> bool:
    """A session that is over soon."""
    session = Session(
        realm="web", handle=handle, revision=1, home="", subject=b"s" * 32, level=1, methods=(), auth_us=0,
        created_us=0, active_us=0, ends_us=9, idle_us=9, stamp=(), subject_stamp=(), tokens=(),
    )  # fmt: skip
    created, key = Created(handle, session.subject, 9), SubjectKey(b"\1sealed", fresh=handle.endswith("00"))
    request = handle.encode()[-32:]
    return await store.create(
        session, (), key, request=request, created=created, guard=None, orphan=lambda one, _: End(one.handle, 0, 0, "")
    )


def test_pieces_of_housekeeping_share_a_sync_and_are_durable_with_the_last(tmp_path: Path) -> None:
    async def story() -> None:
        store = EmbeddedStore.open(tmp_path)
        try:
            await store.note({"begun": b""})
            batch = store._sessions.batch()
            for number in range(1_000):
                batch.put(store._rows.requests, b"%032d" % number, codec.encode_created(Created("h" * 43, b"", 1)))
            await store._sessions.commit(batch)
            for number in range(20):
                assert await keep(store, f"{number:043}")
            before = store._sessions.syncs
            for number in range(20):
                await store.remove("web", [f"{number:043}"])
                assert (await store.read("web", f"{number:043}")).session is None
            # A thousand requests of logins, those of the sessions, the key of their subject.
            assert await store.prune(1_000, 2_000) == 1_000 + 20 + 1
            assert store._sessions.syncs - before <= 4, "each of forty pieces had its own"
            assert store._sessions.pending == store._keys.pending == 0, "durable when prune returns"
        finally:
            await store.close()

    asyncio.run(story())


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
