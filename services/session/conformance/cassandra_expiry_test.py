"""What ends by itself on Cassandra: rows with a time to live, on the machine's own clock; nothing else goes along."""

import asyncio
import os
import time
from dataclasses import replace

from services.session.conformance import node
from services.session.conformance.store_test import ALICE, KEY, a_session, create
from services.session.domain.model import Item
from services.session.domain.opaque_model import OpaqueRow, OpaqueTombstone
from services.session.store.interface import End, SubjectKey

SAME = SubjectKey(KEY.sealed, fresh=False)
DAY_US = 86_400_000_000


def now_us():
    return time.time_ns() // 1000


def on_time(test):
    """Over a store whose rows end by the machine's clock."""

    async def main():
        async with node.opened(now_us) as store:
            await test(store)

    asyncio.run(main())


async def until(condition):
    """Asks until it is so."""
    while True:
        if await condition():
            return
        await asyncio.sleep(0.1)


def test_a_session_its_items_its_place_and_its_request_go_when_it_ends():
    async def test(store):
        end_us = now_us() + 2_000_000
        short = a_session("x", created_us=now_us(), ends_us=end_us)
        long = a_session("y", created_us=now_us(), ends_us=end_us + DAY_US)
        request = os.urandom(16)
        await create(store, short, [Item(b"d" + b"1" * 16, 1, b"v")], request=request, until_us=end_us)
        await create(
            store, long, [Item(b"r" + b"1" * 16, 0, b"answer", end_us), Item(b"d" + b"2" * 16, 1, b"v")], key=SAME
        )

        async def gone():
            return (await store.read("web", short.handle)).session is None

        await until(gone)
        assert not (await store.read("web", short.handle, kinds=b"d")).items

        async def forgotten():
            return await store.created_by(request) is None and (await store.usage("web")).sessions == 1

        await until(forgotten)
        page = await store.by_subject("web", ALICE, after=None, limit=9)
        assert [s.session.handle for s in page.found] == [long.handle]

        async def only_data():
            return set((await store.read("web", long.handle, kinds=b"dr")).items) == {b"d" + b"2" * 16}

        await until(only_data)
        assert await store.subject_key("web", ALICE, session=short) is None, "a session's key goes with it"
        assert await store.subject_key("web", ALICE, session=long) == KEY.sealed
        await store.remove("web", [long.handle])
        assert await store.subject_key("web", ALICE) is None

    on_time(test)


def test_a_session_that_lives_longer_takes_all_along_that_is_beside_it():
    async def test(store):
        end_us = now_us() + 1_000_000_000
        answer = Item(b"r" + b"1" * 16, 0, b"answer", end_us)
        short = a_session("x", created_us=now_us(), ends_us=end_us)
        await create(store, short, [Item(b"s" + b"1" * 16, 1, b"shared"), Item(b"d" + b"1" * 16, 1, b"v"), answer])
        assert max(lives(store, short)) <= 1000
        longer = replace(short, revision=2, ends_us=end_us + DAY_US)
        assert await store.replace(short, longer, put=[Item(b"d" + b"2" * 16, 1, b"w")], remove=[b"d" + b"1" * 16])
        got = await store.read("web", short.handle, kinds=b"drs")
        assert got.session == longer and set(got.items) == {b"s" + b"1" * 16, b"d" + b"2" * 16, answer.key}
        # The head, a row for it, two values, the place in the list and the key there; the remembered answer keeps its
        # own end.
        assert sorted(live > 86_400 for live in lives(store, short)) == [False] + 6 * [True]

    on_time(test)


def lives(store, session):
    """Seconds that each row of a session has left."""
    raw = store._cluster.session._raw
    at = f"realm = '{session.realm}' AND handle = '{session.handle}'"
    items = raw.execute(f"SELECT TTL(item), TTL(head) FROM sessions WHERE {at}").all()
    place = raw.execute(f"SELECT TTL(pending), TTL(key) FROM subjects WHERE {at} ALLOW FILTERING").all()
    return [items[0][1], *(row[0] for row in items), *(live for row in place for live in row)]


def test_a_tombstone_outlives_what_it_ended():
    async def test(store):
        end_us = now_us() + 1_500_000
        session = a_session("x", created_us=now_us(), ends_us=end_us)
        await create(store, session)
        await store.end("web", [End(session.handle, now_us(), end_us, "logout")])

        async def over():
            return now_us() > end_us + 1_500_000

        await until(over)
        assert (await store.read("web", session.handle)).tombstone is not None

    on_time(test)


def test_an_opaque_value_goes_and_one_that_slipped_past_a_deletion_shows_nothing_ever():
    async def test(store):
        opaque, name, other = store.opaque, b"\x01" + b"n" * 32, b"\x01" + b"o" * 32
        written_us = now_us()
        end_us = written_us + 2_000_000
        await opaque.write("wiki", [name], OpaqueRow(name, written_us, end_us, (), b"sealed"), lambda _: True)
        await opaque.delete("wiki", [other], OpaqueTombstone(written_us, end_us))
        late = OpaqueRow(other, written_us + 1, end_us + DAY_US, (), b"sealed")
        await opaque.write("wiki", [other], late, lambda _: True)
        assert (await opaque.read("wiki", [other])).row is None

        async def gone():
            return (await opaque.read("wiki", [name])).row is None and now_us() > end_us

        await until(gone)
        assert (await opaque.read("wiki", [other])).row is None, "the tombstone's time is over, it is a deletion still"
        again = OpaqueRow(other, now_us(), end_us + DAY_US, (), b"sealed")
        await opaque.write("wiki", [other], again, lambda _: True)
        assert (await opaque.read("wiki", [other])).row == again

    on_time(test)


def test_revocations_that_are_gone_are_missed_and_numbers_go_on():
    async def test(store):
        for at in range(3):
            await store.end("web", [End(a_session(str(at)).handle, at, now_us(), "logout")])
        store._cluster.session._raw.execute("TRUNCATE revocations")
        fresh = node.again(store)
        gone = await fresh.revocations("web", 0, 10)
        assert (gone.found, gone.oldest, gone.newest) == ([], 4, 3)
        await fresh.raise_realm_epoch("web", "local", 9)
        told = await fresh.revocations("web", 3, 10)
        assert [one.sequence for one in told.found] == [4] and told.newest == 4
        behind = await fresh.revocations("web", 1, 10)
        assert behind.oldest == 4, "a watcher that heard of two is told that it missed one"

    on_time(test)
