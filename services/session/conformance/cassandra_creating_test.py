"""Logins over one Cassandra store at several servers: stopped half way, beside an erasure, of one request, with clocks
that are apart, in realms that count a subject's sessions and in those that do not; and keys of sessions of before."""

import asyncio
import contextlib
import gc
from types import SimpleNamespace

import pytest

from libs.errors.errors import Unavailable
from services.session.cassandra.creating import SMALL_BYTES, both
from services.session.conformance import node
from services.session.conformance.cassandra_servers_test import Dies, two
from services.session.conformance.verbs import data, refused, step_up, valid
from services.session.domain import listing, revoking
from services.session.domain.errors import RequestReused, SessionInvalid
from services.session.domain.policy import SECOND
from services.session.domain.revoking import erase_subject

LIMITED = pytest.mark.parametrize("limit", [100, 0])
"""Logins that are counted, and those that are not."""


@LIMITED
def test_a_login_that_stopped_between_any_two_of_its_writes_leaves_nothing_that_logs_in(limit):
    async def test(a, b, faulty):
        # Its own words; the sessions that were begun have tokens that nobody holds.
        for step in ("INTO sessions", "UPDATE subjects", "FROM creations", "FROM subject_epochs"):
            if step == "UPDATE subjects" and not limit:
                continue
            faulty.dying = step
            request = a.uuid()
            with pytest.raises(Dies):
                await a.create("alice", request_id=request)
            faulty.dying = ""
            made = await b.create("alice", request_id=request)
            await valid(a, made.token)
            kept = (await listing.by_subject(b.tools, b.realm(), "alice", None, 10)).sessions
            assert [s.handle for s in kept] == [made.session.handle]
            await revoking.revoke_subject(b.tools, b.realm(), "app", "alice")

    two(test, max_sessions_per_subject=limit)


@LIMITED
def test_a_login_with_much_to_keep_is_as_whole_as_a_small_one(limit):
    async def test(a, b, faulty):
        much = {"k": bytes(SMALL_BYTES + 1)}
        request = a.uuid()
        faulty.dying = "INTO creations"
        with pytest.raises(Dies):
            await a.create("alice", data=much, request_id=request)
        faulty.dying = ""
        made = await b.create("alice", data=much, request_id=request)
        assert await data(a, made.token) == much
        kept = await listing.by_subject(a.tools, a.realm(), "alice", None, 10)
        assert [one.handle for one in kept.sessions] == [made.session.handle]

    two(test, max_sessions_per_subject=limit)


def test_a_subject_erased_at_one_server_begins_anew_at_both():
    async def test(a, b, _):
        made = await a.create("alice", data={"k": b"v"})
        assert await data(b, made.token) == {"k": b"v"}
        await erase_subject(b.tools, b.realm(), "app", "alice")
        await refused(a, made.token)
        again = await b.create("alice", data={"k": b"new"})
        assert await data(a, again.token) == {"k": b"new"}

    two(test)


@LIMITED
def test_an_erasure_beside_logins_leaves_no_session_without_its_key(limit):
    async def test(a, b, _):
        for _ in range(3):
            work = [a.create("alice", data={"k": b"v"}), erase_subject(b.tools, b.realm(), "app", "alice")]
            made, _ = await asyncio.gather(*work)
            try:
                await valid(a, made.token)
            except SessionInvalid:
                continue
            assert await data(b, made.token) == {"k": b"v"}

    two(test, max_sessions_per_subject=limit)


@pytest.mark.parametrize(("limit", "last"), [(100, "UPDATE subjects"), (0, "INTO creations")])
def test_a_login_whose_key_an_erasure_takes_before_it_is_answered_begins_again(limit, last):
    async def test(a, b, faulty):
        # It has written all, and not looked yet whether it may stand: the erasure finds its key.
        faulty.slow = last
        coming = asyncio.create_task(a.create("alice", data={"k": b"v"}))
        await faulty.holds.wait()
        await erase_subject(b.tools, b.realm(), "app", "alice")
        faulty.let_go()
        made = await coming
        assert await data(b, made.token) == {"k": b"v"}, "made again, of after the erasure"
        kept = await listing.by_subject(b.tools, b.realm(), "alice", None, 10)
        assert [one.handle for one in kept.sessions] == [made.session.handle]

    two(test, max_sessions_per_subject=limit)


@LIMITED
def test_a_login_in_the_middle_of_an_erasure_that_takes_its_key_is_over(limit):
    async def test(a, b, faulty):
        faulty.held = "SELECT DISTINCT sealed"
        erasing = asyncio.create_task(erase_subject(a.tools, a.realm(), "app", "alice"))
        await faulty.holds.wait()
        made = await b.create("alice", data={"k": b"v"})
        assert await data(b, made.token) == {"k": b"v"}
        faulty.let_go()
        await erasing
        await refused(b, made.token)
        assert not (await listing.by_subject(b.tools, b.realm(), "alice", None, 10)).sessions

    two(test, max_sessions_per_subject=limit)


@LIMITED
def test_of_creates_of_one_request_at_two_servers_at_once_one_stands(limit):
    async def test(a, b, _):
        for who in ("alice", "bob"):
            request = a.uuid()
            made = await asyncio.gather(*(s.create(who, request_id=request) for s in (a, b) for _ in range(3)))
            good = []
            for one in made:
                with contextlib.suppress(SessionInvalid):
                    await valid(b, one.token)
                    good.append(one.session.handle)
            assert len(good) == 1, "the latest has ended the others"
            kept = await listing.by_subject(b.tools, b.realm(), who, None, 10)
            assert [one.handle for one in kept.sessions] == good
            again = await b.create(who, request_id=request)
            for one in made:
                await refused(a, one.token)
            await valid(a, again.token)

    two(test, max_sessions_per_subject=limit)


@LIMITED
def test_a_create_that_is_sent_again_to_a_server_whose_clock_is_behind_ends_the_first_one(limit):
    async def test(a, b, _):
        behind = a.tools.clock.now_us() - 300 * SECOND
        object.__setattr__(b.tools, "clock", SimpleNamespace(now_us=lambda: behind))
        request = a.uuid()
        made = await a.create("alice", request_id=request)
        again = await b.create("alice", request_id=request)
        await refused(a, made.token)
        await valid(a, again.token)
        third = await a.create("alice", request_id=request)
        await refused(b, again.token)
        await valid(b, third.token)

    two(test, max_sessions_per_subject=limit)


@LIMITED
def test_a_request_of_another_subject_leaves_nothing(limit):
    async def test(a, b, _):
        request = a.uuid()
        made = await a.create("alice", request_id=request)
        with pytest.raises(RequestReused):
            await b.create("bob", request_id=request)
        assert not (await listing.by_subject(b.tools, b.realm(), "bob", None, 10)).sessions
        await valid(b, made.token)
        again = await b.create("alice", request_id=request)
        await refused(a, made.token)
        await valid(a, again.token)

    two(test, max_sessions_per_subject=limit)


SEVERAL = "until_us) VALUES (?, ?, ?, ?) USING TIMESTAMP 1 AND TTL ?; INSERT"
"""In a batch that holds more than one login."""


@pytest.mark.parametrize("fault", ["failing", "lost", ""])
def test_of_logins_that_share_requests_each_has_its_own_outcome(fault):
    async def test(a, b, faulty):
        requests = [a.uuid(), a.uuid()]
        old, carols = [
            await a.create(name, request_id=one) for name, one in zip(("alice", "carol"), requests, strict=True)
        ]
        who = [f"user {number % 5}" for number in range(20)]
        setattr(faulty, fault or "held", SEVERAL if fault else "nothing of the kind")
        work = [a.create(one, data={"k": one.encode()}) for one in who]
        work += [a.create("bob", request_id=requests[1]), a.create("alice", request_id=requests[0])]
        *made, stolen, again = await asyncio.gather(*work, return_exceptions=True)
        assert bool(faulty.met) == bool(fault), "the story meets the fault"
        assert isinstance(stolen, RequestReused)
        await refused(b, old.token)
        await valid(b, again.token)
        await valid(b, carols.token)
        for subject, one in zip(who, made, strict=True):
            assert await data(b, one.token) == {"k": subject.encode()}
        for subject in set(who):
            kept = await listing.by_subject(b.tools, b.realm(), subject, None, 10)
            assert {one.handle for one in kept.sessions} == {
                one.session.handle for name, one in zip(who, made, strict=True) if name == subject
            }
        assert not (await listing.by_subject(b.tools, b.realm(), "bob", None, 10)).sessions

    two(test, max_sessions_per_subject=0)


def test_an_erasure_and_a_revocation_beside_logins_that_share_requests_are_of_before_or_after():
    async def test(a, b, faulty):
        faulty.slow = SEVERAL
        coming = [asyncio.create_task(a.create(who, data={"k": b"v"})) for who in ("alice", "bob", "carol")]
        await faulty.holds.wait()
        await erase_subject(b.tools, b.realm(), "app", "alice")
        await revoking.revoke_subject(b.tools, b.realm(), "app", "bob")
        early = [one.done() for one in coming]
        assert not all(early), "those that share the batch are held"
        faulty.let_go()
        for who, made, answered in zip(("alice", "bob", "carol"), await asyncio.gather(*coming), early, strict=True):
            if answered and who != "carol":
                continue  # it may have been answered before the revocation began
            assert await data(b, made.token) == {"k": b"v"}, "who was revoked meanwhile was made again"
            kept = await listing.by_subject(b.tools, b.realm(), who, None, 10)
            assert [one.handle for one in kept.sessions] == [made.session.handle]

    two(test, max_sessions_per_subject=0)


def test_a_session_of_before_whose_key_is_its_subjects_opens_rotates_its_key_and_is_erased():
    async def test(a, b, _):
        made = await a.create("alice", data={"k": b"v"}, shared={"s": b"w"})
        who, store = made.session.subject, a.tools.store
        sealed = await store.subject_key("web", who)
        place = store._here.subjects._place(made.session)
        at = "realm = 'web' AND subject = %s AND shard = 0"
        raw = store._cluster.session._raw
        raw.execute(f"UPDATE subjects SET sealed = %s WHERE {at}", (sealed, place[1]))
        raw.execute(f"DELETE key FROM subjects WHERE {at} AND created_us = %s AND handle = %s", place[1:2] + place[3:])
        assert await data(b, made.token) == {"k": b"v"}
        other = await b.create("alice", data={"k": b"x"})
        assert await store.sealed_by(1) == 2
        anew = await store.rewrap(1, lambda _, subject, key: b"\x02" + key[1:], None, 100)
        assert anew.changed == 2 and await store.sealed_by(2) == 2 and await store.sealed_by(1) == 0
        back = await node.again(store).rewrap(2, lambda _, subject, key: b"\x01" + key[1:], None, 100)
        assert back.changed == 2
        assert await data(b, made.token) == {"k": b"v"} and await data(a, other.token) == {"k": b"x"}
        high = await step_up(b, made.token)
        assert await data(a, high.token) == {"k": b"v"}
        await erase_subject(b.tools, b.realm(), "app", "alice")
        assert await store.subject_key("web", who) is None

    two(test)


@pytest.mark.parametrize("cancelled", [False, True])
def test_of_two_looks_that_fail_one_failure_is_told_to_the_caller_and_none_to_the_log(caplog, cancelled):
    async def test():
        looks = [asyncio.get_running_loop().create_future() for _ in range(2)]
        waiting = asyncio.create_task(both(*looks))
        await asyncio.sleep(0)
        if cancelled:
            waiting.cancel()
        else:
            looks[0].set_exception(Unavailable("the first"))
        with pytest.raises(asyncio.CancelledError if cancelled else Unavailable):
            await waiting
        looks[1].set_exception(Unavailable("the second"))
        await asyncio.sleep(0)

    asyncio.run(test())
    gc.collect()
    assert not caplog.records
