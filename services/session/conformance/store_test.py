"""What every store does, asked directly: the same suite over each of them."""

import os
import random
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.session.conformance.harness import STORES, opened
from services.session.domain.model import (
    ANONYMOUS,
    Created,
    Epoch,
    Item,
    OldToken,
    RealmRecord,
    Retry,
    Session,
    TokenRecord,
)
from services.session.store import codec
from services.session.store.interface import End, SubjectKey

ALICE, BOB = b"a" * 32, b"b" * 32
KEY = SubjectKey(b"sealed key", fresh=True)
REMEMBERED_US = 600_000_000
"""Long after the first sessions are made, also where rows have a time to live in real seconds."""
each = pytest.mark.parametrize("name", STORES)


def run(name, test):
    import asyncio

    async def main():
        async with opened(name) as store:
            await test(store)

    asyncio.run(main())


def a_session(handle, *, realm="web", subject=ALICE, created_us=1000, **changes):
    tokens = (TokenRecord(1, os.urandom(32), created_us, 0, os.urandom(88)),)
    session = Session(
        realm=realm, handle=handle.ljust(43, "h"), revision=1, home="local", subject=subject, level=1,
        methods=("pwd",), auth_us=created_us, created_us=created_us, active_us=created_us, ends_us=10**9,
        idle_us=77, stamp=(), subject_stamp=(), tokens=tokens,
    )  # fmt: skip
    return replace(session, **changes)


async def create(store, session, items=(), *, key=KEY, request=None, until_us=REMEMBERED_US, guard=None):
    return await store.create(
        session,
        items,
        key,
        request=request or os.urandom(16),
        created=Created(session.handle, session.subject, until_us),
        guard=guard,
        orphan=lambda created, _: End(created.handle, session.created_us, 10**9, "orphan"),
    )


@each
def test_a_session_is_read_as_it_was_written(name):
    async def test(store):
        full = a_session(
            "x",
            old=(OldToken(1, b"o" * 16, 5), OldToken(2, b"p" * 16, 6)),
            retry=Retry(b"r" * 16, 1, b"p" * 32, b"c" * 32, b"wrapped", 7, 8),
            stamp=(("east", 2), ("west", 1)),
            subject_stamp=(("east", 9),),
            data_keys=2,
            data_bytes=99,
            floor=3,
        )
        items = [
            Item(b"d" + b"1" * 16, 4, b"one"),
            Item(b"s" + b"2" * 16, 5, b"two"),
            Item(b"r" + b"3" * 16, 0, b"", 9),
        ]
        assert await create(store, full, items)
        got = await store.read("web", full.handle, [items[0].key, b"d" + b"9" * 16], kinds=b"sr")
        assert got.session == full and got.items == {item.key: item for item in items}
        assert got.tombstone is None and got.subject_epoch == Epoch()
        assert not (await store.read("web", full.handle)).items
        assert (await store.read("app", full.handle)).session is None

    run(name, test)


@each
def test_a_handle_is_used_once(name):
    async def test(store):
        session = a_session("x")
        assert await create(store, session)
        assert not await create(store, session, key=SubjectKey(KEY.sealed, fresh=False))
        await store.end("web", [End(session.handle, 5, 100, "logout")])
        assert not await create(store, session)

    run(name, test)


@each
def test_a_write_at_another_revision_is_refused(name):
    async def test(store):
        first = a_session("x")
        await create(store, first, [Item(b"d" + b"1" * 16, 1, b"old")])
        second = replace(first, revision=2, active_us=2000)
        assert await store.replace(first, second, put=[Item(b"d" + b"2" * 16, 1, b"new")], remove=[b"d" + b"1" * 16])
        assert not await store.replace(first, replace(first, revision=2))
        got = await store.read("web", first.handle, kinds=b"d")
        assert got.session == second and list(got.items) == [b"d" + b"2" * 16]

    run(name, test)


@each
def test_what_was_ended_takes_no_write_and_ends_once(name):
    async def test(store):
        session = a_session("x")
        await create(store, session, [Item(b"d" + b"1" * 16, 1, b"v")])
        assert await store.end("web", [End(session.handle, 5, 100, "logout")]) == 1
        assert await store.end("web", [End(session.handle, 9, 200, "handle")]) == 0
        assert not await store.replace(session, replace(session, revision=2))
        got = await store.read("web", session.handle, kinds=b"d")
        assert got.session is None and not got.items
        # The first revocation stands, and stands as long as any of them says.
        assert (got.tombstone.at_us, got.tombstone.until_us, got.tombstone.cause) == (5, 200, "logout")

    run(name, test)


@each
def test_subjects_keys_are_kept_with_their_first_session(name):
    async def test(store):
        assert await store.subject_key("web", ALICE) is None
        assert not await create(store, a_session("x"), key=SubjectKey(b"read before", fresh=False))
        assert await create(store, a_session("x"))
        assert await store.subject_key("web", ALICE) == KEY.sealed
        # A key of its own is every session's where they have such keys; where they share one it is the first's.
        assert await create(store, a_session("o"), key=SubjectKey(b"another", fresh=True)) == store.keys_apart
        assert await create(store, a_session("y"), key=SubjectKey(KEY.sealed, fresh=False))
        assert await store.erase_subject_key("web", ALICE)
        assert not await store.erase_subject_key("web", ALICE)
        # A key read before it was destroyed does not come back.
        assert not await create(store, a_session("z"), key=SubjectKey(KEY.sealed, fresh=False))
        assert await store.subject_key("web", ALICE) is None

    run(name, test)


@each
def test_a_remembered_create_ends_what_it_made(name):
    async def test(store):
        request = b"q" * 16
        await create(store, a_session("x"), request=request)
        assert (await store.created_by(request)).handle == a_session("x").handle
        await create(store, a_session("y"), request=request, key=SubjectKey(KEY.sealed, fresh=False))
        assert (await store.read("web", a_session("x").handle)).tombstone.cause == "orphan"
        late = a_session("z", created_us=REMEMBERED_US + 1)
        await create(store, late, request=request, key=SubjectKey(KEY.sealed, fresh=False))
        assert (await store.read("web", a_session("y").handle)).session is not None

    run(name, test)


@each
def test_a_guard_sees_the_others_and_may_refuse_or_end_them(name):
    async def test(store):
        same = SubjectKey(KEY.sealed, fresh=False)
        await create(store, a_session("x", created_us=1))
        await create(store, a_session("y", created_us=2), key=same)
        await create(store, a_session("o", subject=BOB))
        seen = []

        def refuse(others):
            seen.extend(s.session.handle[0] for s in others)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await create(store, a_session("z"), key=same, guard=refuse)
        assert seen == ["x", "y"]
        evict = lambda others: [End(others[0].session.handle, 3, 10**9, "limit")]  # noqa: E731
        assert await create(store, a_session("z", created_us=3), key=same, guard=evict)
        page = await store.by_subject("web", ALICE, after=None, limit=10)
        assert [s.session.handle[0] for s in page.found] == ["y", "z"]

    run(name, test)


@each
def test_a_session_changes_its_subject(name):
    async def test(store):
        first = a_session("x", subject=ANONYMOUS)
        await create(store, first)
        assert await store.anonymous("web") == 1
        second = replace(first, revision=2, subject=ALICE)
        assert not await store.replace(first, second, key=SubjectKey(b"k", fresh=False))
        assert await store.replace(first, second, key=SubjectKey(b"k", fresh=True))
        assert await store.anonymous("web") == 0
        assert not (await store.by_subject("web", ANONYMOUS, after=None, limit=9)).found
        assert len((await store.by_subject("web", ALICE, after=None, limit=9)).found) == 1

    run(name, test)


@each
def test_a_subjects_sessions_come_in_pages(name):
    async def test(store):
        rng = random.Random(5)
        for i in rng.sample(range(25), 25):
            key = SubjectKey(KEY.sealed, fresh=await store.subject_key("web", ALICE) is None)
            await create(store, a_session(chr(97 + i), created_us=i // 2), key=key)
            await create(store, a_session(chr(65 + i), subject=BOB, created_us=i), key=KEY) or await create(
                store, a_session(chr(65 + i), subject=BOB, created_us=i), key=SubjectKey(KEY.sealed, fresh=False)
            )
        seen, after = [], None
        while True:
            page = await store.by_subject("web", ALICE, after=after, limit=4)
            assert len(page.found) <= 4
            seen += [s.session.handle[0] for s in page.found]
            after = page.resume
            if after is None:
                break
        assert seen == [chr(97 + i) for i in range(25)]
        assert await store.usage("web") == (50, 0, 2)

    run(name, test)


@each
def test_epochs_grow_by_data_centre(name):
    async def test(store):
        assert await store.raise_realm_epoch("web", "east", 5) == Epoch((("east", 1),), 5)
        assert await store.raise_realm_epoch("web", "west", 4) == Epoch((("east", 1), ("west", 1)), 5)
        assert await store.raise_subject_epoch("web", ALICE, "east", 7) == Epoch((("east", 1),), 7)
        assert await store.realm_epochs() == {"web": Epoch((("east", 1), ("west", 1)), 5)}
        assert await store.subject_epoch("web", BOB) == Epoch()
        session = a_session("x", subject_stamp=(("east", 1),))
        await create(store, session)
        assert (await store.read("web", session.handle)).subject_epoch.raised_us == 7

    run(name, test)


@each
def test_realms_by_version(name):
    async def test(store):
        record = RealmRecord("web", 1, 5, b"{}")
        assert not await store.put_realm(record, version=3)
        assert await store.put_realm(record, version=0)
        assert not await store.put_realm(record, version=0)
        assert await store.put_realm(record._replace(version=2), version=1)
        assert await store.realms() == [record._replace(version=2)]
        await store.raise_realm_epoch("web", "east", 1)
        assert not await store.delete_realm("web", version=1)
        assert await store.delete_realm("web", version=2)
        assert await store.realms() == [] and (await store.realm_epochs())["web"].counters

    run(name, test)


@each
def test_the_walk_meets_every_session_and_ends(name):
    async def test(store):
        handles = {f"{i:03}".ljust(43, "h") for i in range(30)}
        for i, handle in enumerate(sorted(handles)):
            key = SubjectKey(KEY.sealed, fresh=i < 2)
            await create(store, a_session(handle, realm=("web", "app")[i % 2]), key=key)
        seen, resume = set(), None
        while True:
            piece = await store.patrol(resume, 7)
            seen |= {s.session.handle for s in piece.found}
            resume = piece.resume
            if resume is None:
                break
        assert seen == handles

    run(name, test)


@each
def test_what_has_an_end_is_pruned_at_its_end(name):
    async def test(store):
        session, request = a_session("x"), b"q" * 16
        await create(store, session, [Item(b"r" + b"1" * 16, 0, b"v", 3000)], request=request)
        await create(store, a_session("y", subject=BOB))
        await store.end("web", [End(a_session("y").handle, 1, 2000, "logout")])
        assert await store.prune(1999, 100) == 1  # Bob's key: no session needs it
        assert await store.subject_key("web", BOB) is None
        assert await store.prune(2000, 100) == 1
        assert (await store.read("web", a_session("y").handle)).tombstone is None
        assert await store.prune(3000, 100) == 1
        assert not (await store.read("web", session.handle, kinds=b"r")).items
        assert await store.prune(REMEMBERED_US, 100) == 2
        assert await store.created_by(request) is None
        assert await store.subject_key("web", ALICE) is not None
        await store.remove("web", [session.handle, "never was".ljust(43, "h")])
        assert (await store.read("web", session.handle)).session is None

    run(name, test)


def test_ses_10_a_row_that_comes_back_from_elsewhere_stays_revoked():
    async def test(store):
        session = a_session("x")
        await create(store, session)
        await store.end("web", [End(session.handle, 5, 100, "logout")])
        batch = store._sessions.batch()
        store._rows.insert(batch, session, ())
        await store._sessions.commit(batch)
        got = await store.read("web", session.handle)
        assert got.session == session and got.tombstone is not None
        assert not await store.replace(session, replace(session, revision=2))

    run("embedded", test)


def test_ses_32_a_page_costs_its_own_sessions_however_many_others_there_are():
    async def test(store):
        rows = store._rows
        batch = store._sessions.batch()
        others = (a_session(f"{i:06}", subject=os.urandom(32)) for i in range(5_000))
        for session in others:
            rows.insert(batch, session, ())
        await store._sessions.commit(batch)
        await create(store, a_session("mine"))
        asked = []
        get_many = rows.sessions.get_many

        class Counting:
            def __getattr__(self, name):
                return getattr(real, name)

            def get_many(self, keys):
                asked.extend(keys)
                return get_many(keys)

        real, rows.sessions = rows.sessions, Counting()
        found = (await store.by_subject("web", ALICE, after=None, limit=50)).found
        assert len(found) == 1 and len(asked) == 1

    run("embedded", test)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
@example(bytes(48) + b"\xff")
@example(bytes(16) + b"\xff")
def test_damaged_records_are_told_and_not_guessed(data):
    for decode in (
        lambda d: codec.decode_session("web", "h", d),
        lambda d: codec.decode_item(b"k", d),
        codec.decode_epoch,
        codec.decode_created,
        codec.decode_tombstone,
        lambda d: codec.decode_realm("web", d),
    ):
        try:
            decode(data)
        except codec.Damaged:
            continue


def test_a_cut_session_is_damaged():
    data = codec.encode_session(a_session("x"))
    for cut in range(len(data)):
        with pytest.raises(codec.Damaged):
            codec.decode_session("web", "x", data[:cut])
