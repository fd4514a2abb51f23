"""Several servers over one Cassandra store: answers lost, steps that nobody finished, races of two, what one learns of
the other. A server is the domain over a store of its own; they share the tables and nothing else."""

import asyncio
from hashlib import sha256

import pytest

from libs.cassandra.errors import OutcomeUnknown
from libs.errors.errors import Unavailable
from services.session.conformance import node
from services.session.conformance.bound_test import validate
from services.session.conformance.harness import service
from services.session.conformance.proving import proof
from services.session.conformance.store_test import ALICE, KEY, a_session, create
from services.session.conformance.verbs import data, refused, rotate, step_up, update, valid
from services.session.crypto.dpop_fakes import ClientKey
from services.session.domain import creating, listing, revoking, rotating
from services.session.domain.creating import Assurance, Client
from services.session.domain.errors import (
    RealmNotFound,
    SessionInvalid,
    SessionLimit,
    Stale,
)
from services.session.domain.model import Item
from services.session.domain.operations import Operation
from services.session.domain.policy import SECOND, Limit
from services.session.domain.proofs import Proof
from services.session.store.interface import End, SubjectKey

SAME = SubjectKey(KEY.sealed, fresh=False)


class Dies(Exception):
    """The server that was to write on is gone."""


class Faulty:
    """A connection that loses what it is told to: `lost` statements are carried out and not answered, `failing` ones
    are not carried out, at `dying` ones the server ends; `held` ones wait until they are let go, and so do answers to
    `slow` ones."""

    def __init__(self, real):
        self._real = real
        self.lost = self.failing = self.dying = self.held = self.slow = ""
        self.met = 0
        self.holds = asyncio.Event()
        self.go = asyncio.Event()

    def let_go(self):
        """What is held, and what would be, goes on."""
        self.held = self.slow = ""
        self.go.set()

    def __getattr__(self, name):
        return getattr(self._real, name)

    async def execute(self, statement, *args, **kwargs):
        return await self._do(self._real.execute(statement, *args, **kwargs), statement.prepared.query_string)

    def pages(self, statement, *args, **kwargs):
        if self.failing and self.failing in statement.prepared.query_string:
            raise Unavailable("too few replicas")
        return self._real.pages(statement, *args, **kwargs)

    async def batch(self, writes, *args, **kwargs):
        text = "; ".join(statement.prepared.query_string for statement, _ in writes)
        return await self._do(self._real.batch(writes, *args, **kwargs), text)

    async def _do(self, work, text):
        if self.dying and self.dying in text:
            work.close()
            raise Dies
        if self.failing and self.failing in text:
            self.met += 1
            work.close()
            raise Unavailable("too few replicas")
        if self.held and self.held in text:
            self.holds.set()
            await self.go.wait()
        rows = await work
        if self.slow and self.slow in text:
            self.holds.set()
            await self.go.wait()
        if self.lost and self.lost in text:
            self.met += 1
            raise OutcomeUnknown("no answer")
        return rows


def two(test, **policy):
    """Two servers with one keyring; the first one's connection is faulty when it is told to be."""

    async def main():
        async with node.opened() as first:
            faulty = first._cluster.session = Faulty(first._cluster.session)
            a = await service(first, **policy)
            second = node.again(first)
            second._cluster.session = faulty._real
            b = await service(second, ring=a.tools.keyring, seed=2, clock=a.clock)
            await test(a, b, faulty)

    asyncio.run(main())


LOST = ["UPDATE sessions USING TTL", "UPDATE subjects", "INTO revocations"]


@pytest.mark.parametrize("what", LOST)
def test_an_answer_that_is_lost_is_looked_up(what):
    async def test(a, b, faulty):
        faulty.lost = what
        made = await a.create("alice", data={"k": b"v"})
        await update(a, made.token, Operation("k", set=b"w"))
        child = await rotate(a, made.token)
        high = await step_up(a, child.token)
        visitor = await a.create("")
        bob = await step_up(a, visitor.token, level=1, subject="bob")
        await revoking.revoke_handle(a.tools, a.realm(), "app", bob.session.handle)
        assert faulty.met, "the story meets the fault"
        assert await data(b, high.token) == {"k": b"w"}
        await refused(b, bob.token)
        told = (await b.tools.store.revocations("web", 0, 10)).found
        assert [one.name for one in told] == [sha256(bob.session.handle.encode()).digest()]

    two(test)


def test_a_session_made_by_one_server_is_used_and_ended_at_the_other_at_once():
    async def test(a, b, _):
        for _ in range(2):
            made = await a.create("alice", data={"k": b"v"})
            assert await data(b, made.token) == {"k": b"v"}
            child = await rotate(b, made.token)
            await valid(a, child.token, touch=True)
            await revoking.revoke_token(b.tools, b.realm(), "app", child.token)
            await refused(a, child.token)
        made = [await a.create("alice") for _ in range(3)]
        await revoking.revoke_subject(b.tools, b.realm(), "app", "alice")
        for one in made:
            await refused(a, one.token)

    two(test)


def test_ses_09_of_logouts_at_once_one_is_told_that_it_ended_the_session():
    async def test(a, b, faulty):
        def logout(s, made):
            return revoking.revoke_token(s.tools, s.realm(), "app", made.token)

        def by_handle(s, made):
            return revoking.revoke_handle(s.tools, s.realm(), "app", made.session.handle)

        # The one who began stands still before the end of it, and another one comes to it.
        for ends in (logout, by_handle):
            made = await a.create("alice")
            faulty.held, faulty.holds, faulty.go = "DELETE head", asyncio.Event(), asyncio.Event()
            began = asyncio.create_task(ends(a, made))
            await faulty.holds.wait()
            assert await ends(b, made) == 1
            faulty.let_go()
            assert await began == 0
            assert await ends(b, made) == 0, "nor is anybody who comes when it is over"
        for _ in range(5):
            made = await a.create("alice")
            assert sum(await asyncio.gather(*(ends(s, made) for s in (a, b) for ends in (logout, by_handle)))) == 1
        # Who comes to the end of a revocation of all has ended nothing.
        made = await a.create("alice")
        faulty.held, faulty.holds, faulty.go = "DELETE head", asyncio.Event(), asyncio.Event()
        began = asyncio.create_task(revoking.revoke_subject(a.tools, a.realm(), "app", "alice"))
        await faulty.holds.wait()
        assert await logout(b, made) == 0
        faulty.let_go()
        assert await began == 1

    two(test)


@pytest.mark.parametrize("limit", [Limit.REJECT, Limit.EVICT_OLDEST])
def test_ses_14_logins_at_two_servers_at_once_leave_as_many_as_allowed(limit):
    async def test(a, b, _):
        visitors = [await s.create("") for s in (a, b)]
        logins = [s.create("alice") for s in (a, b) for _ in range(5)]
        logins += [step_up(s, v.token, level=1, subject="alice") for s, v in zip((a, b), visitors, strict=True)]
        made = await asyncio.gather(*logins, return_exceptions=True)
        good = 0
        for one in made:
            if isinstance(one, SessionLimit | SessionInvalid | Unavailable):
                continue
            try:
                await valid(a, one.token)
                good += 1
            except SessionInvalid:
                continue
        assert good <= 3, "tokens that somebody holds"
        # A login that was not answered may have come before its evictions; nobody holds its token.
        unanswered = sum(isinstance(one, Unavailable) for one in made)
        kept = (await listing.by_subject(b.tools, b.realm(), "alice", None, 100)).sessions
        assert good <= len(kept) <= 3 + unanswered

    two(test, max_sessions_per_subject=3, limit=limit)


def test_a_revocation_that_stopped_half_way_is_true_and_finished_by_asking_again():
    async def test(a, b, faulty):
        for step in ("INTO revocations", "DELETE head", "DELETE FROM subjects"):
            made = await a.create("alice")
            faulty.dying = step
            with pytest.raises(Dies):
                await revoking.revoke_handle(a.tools, a.realm(), "app", made.session.handle)
            faulty.dying = ""
            await refused(b, made.token)
            await revoking.revoke_handle(b.tools, b.realm(), "app", made.session.handle)
            told = [one.name for one in (await b.tools.store.revocations("web", 0, 100)).found]
            assert sha256(made.session.handle.encode()).digest() in told
            assert not (await listing.by_subject(b.tools, b.realm(), "alice", None, 10)).sessions

    two(test)


def test_ses_10_a_row_that_comes_back_from_elsewhere_stays_revoked():
    async def test(a, b, _):
        store = a.tools.store
        session = a_session("x")
        await create(store, session, [Item(b"d" + b"1" * 16, 1, b"v")])
        await store.end("web", [End(session.handle, 5, 10**9, "logout")])
        # A write of before that arrives after the removal is older than it.
        await store._cluster.plain(store._here.sessions.first(session, ()))
        got = await b.tools.store.read("web", session.handle)
        assert got.session is None and got.tombstone.cause == "logout"
        # A restored backup's rows are not; the tombstone outweighs them.
        restored = store._cluster.session._raw
        restored.execute("UPDATE sessions SET revision = 1 WHERE realm = 'web' AND handle = %s", (session.handle,))
        assert not await b.tools.store.replace(session, session)
        assert await b.tools.store.mark("web", session.handle, ALICE) is None

    two(test)


def test_epochs_that_are_written_late_or_twice_do_not_fall():
    async def test(a, b, _):
        first = await a.tools.store.raise_subject_epoch("web", ALICE, "local", 5)
        second = await b.tools.store.raise_subject_epoch("web", ALICE, "local", 9)
        assert second.counters == (("local", 2),)
        late = "web", ALICE, "local", 1, 5, 1
        await a.tools.store._cluster.put("subject_epoch", *late)
        assert await b.tools.store.subject_epoch("web", ALICE) == second > first
        both = await asyncio.gather(
            *(s.tools.store.raise_realm_epoch("web", "local", 7) for s in (a, b) for _ in range(5))
        )
        assert max(epoch.counters for epoch in both) == (await a.tools.store.realm_epochs())["web"].counters

    two(test)


def test_revocations_of_two_servers_at_once_are_numbered_without_a_gap_and_none_is_lost():
    async def test(a, b, _):
        handles = [f"{at:03}".ljust(43, "h") for at in range(60)]
        ends = [End(handle, at, 10**9, "logout") for at, handle in enumerate(handles)]
        done = await asyncio.gather(
            *((a, b)[at % 2].tools.store.end("web", ends[at : at + 3]) for at in range(0, 60, 3)),
        )
        assert sum(done) == 0, "none of them was there"
        told = await a.tools.store.revocations("web", 0, 1000)
        assert [one.sequence for one in told.found] == list(range(1, 61))
        assert {one.name for one in told.found} == {sha256(handle.encode()).digest() for handle in handles}
        assert told == await b.tools.store.revocations("web", 0, 1000)
        for size in (1, 7, 59):
            at, found = 0, []
            while piece := (await b.tools.store.revocations("web", at, size)).found:
                found += piece
                at = piece[-1].sequence
            assert found == told.found

    two(test)


def test_a_number_that_a_server_took_and_did_not_note_is_found_by_the_next_one():
    async def test(a, b, faulty):
        faulty.dying = "UPDATE revocation_heads"
        with pytest.raises(Dies):
            await a.tools.store.raise_realm_epoch("web", "local", 7)
        faulty.dying = ""
        await b.tools.store.raise_realm_epoch("web", "local", 8)
        told = await a.tools.store.revocations("web", 0, 10)
        assert [(one.sequence, one.at_us) for one in told.found] == [(1, 7), (2, 8)] and told.newest == 2

    two(test)


def test_what_one_server_changes_of_realms_the_other_learns():
    async def test(a, b, _):
        made = await a.create("alice")
        await valid(b, made.token)
        kept = b.realm()
        await b.tools.realms.refresh()
        assert b.realm() is kept, "what did not change stays the very same"
        await revoking.revoke_realm(a.tools, a.realm(), "app")
        await b.tools.realms.refresh()
        await refused(b, made.token)
        await a.clock.advance(1)
        await a.set_policy(max_sessions_per_subject=7)
        await a.tools.realms.create("third", a.realm().policy)
        await a.tools.realms.delete("app", "")
        await b.tools.realms.refresh()
        assert b.realm().policy.max_sessions_per_subject == 7 and b.tools.realms.names() == ["third", "web"]
        await a.tools.realms.delete("third", "")
        await a.clock.advance(1)
        await a.tools.realms.create("third", a.realm().policy)
        await b.tools.realms.refresh()
        assert b.tools.realms.get("third").etag == a.tools.realms.get("third").etag

    two(test)


def test_ses_11_a_server_that_cannot_refresh_refuses_after_the_bound():
    async def test(a, b, faulty):
        await a.tools.realms.refresh()
        faulty.failing = "FROM realm_epochs"
        with pytest.raises(Unavailable):
            await a.tools.realms.refresh()
        a.tools.realms.enter("web", "app", "Validate")
        await a.clock.advance(a.realm().policy.revocation_bound_us / SECOND + 1)
        with pytest.raises(Stale):
            a.tools.realms.enter("web", "app", "Validate")
        a.tools.realms.enter("web", "app", "Revoke")
        with pytest.raises(RealmNotFound):
            a.tools.realms.enter("nowhere", "app", "Validate")
        faulty.failing = ""
        await a.tools.realms.refresh()
        a.tools.realms.enter("web", "app", "Validate")

    two(test)


def test_ses_24_a_proof_is_good_once_at_all_servers_together():
    async def test(a, b, faulty):
        key = ClientKey()
        client, who = Client(bind=key.thumbprint), Assurance(1, (), 0)
        made = await creating.create(a.tools, a.realm(), "app", "u", who, {"n": b"1"}, {}, a.uuid(), client)
        again = proof(a, key, made.token)
        assert (await validate(a, made.token, fresh(again))).data["n"].value == b"1"
        for s in (b, a):
            with pytest.raises(SessionInvalid):
                await validate(s, made.token, fresh(again))
        # Of several that come at once with the same, at both, one is let in.
        same = proof(a, key, made.token)
        tries = [validate(s, made.token, fresh(same)) for s in (a, b) for _ in range(4)]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        assert len([one for one in answers if not isinstance(one, SessionInvalid)]) == 1
        # An answer of the cluster that is lost is looked up; the retry of a request may come to the other server.
        faulty.lost = "INTO requests"
        await validate(a, made.token, proof(a, key, made.token))
        assert faulty.met
        rid = a.uuid()
        once = proof(a, key, made.token, retry=f"Rotate app {rid}")
        for s in (a, b):
            child = await rotating.rotate(
                s.tools, s.realm(), "app", made.token, privilege=False, request_id=rid, proof=fresh(once)
            )
        with pytest.raises(SessionInvalid):
            await validate(b, child.token, fresh(once))
        faulty.lost, faulty.failing = "", "INTO requests"
        with pytest.raises(Unavailable):
            await validate(a, child.token, proof(a, key, child.token))

    two(test)


def fresh(given):
    """The same proof, come with another call."""
    return Proof(given.jwt, given.method, given.uri, given.retry)
