"""The hot path on Cassandra: one read where nothing is known that revoked a session, and never an answer that the store
would not give: revoked elsewhere, while it is read, half way, or before a row came back."""

import asyncio
import random
from contextlib import contextmanager
from dataclasses import replace

import pytest

from libs.errors.errors import Unavailable
from services.session.cassandra.names import Names
from services.session.conformance import node
from services.session.conformance.cassandra_servers_test import Dies, Faulty
from services.session.conformance.harness import service
from services.session.conformance.verbs import data, step_up
from services.session.crypto import pseudonyms
from services.session.domain import listing, revoking, validating
from services.session.domain.errors import SessionInvalid
from services.session.refreshing import Refresher
from services.session.store.codec import encode_session

ONE = {"sessions": 1}
ALL = {"sessions": 1, "tombstones": 1, "subject_epochs": 1}


class Counting(Faulty):
    """A connection that counts what is asked of each table."""

    def __init__(self, real):
        super().__init__(real)
        self.asked = {}

    async def _do(self, work, text):
        for at, word in enumerate(words := text.split()):
            if word in ("FROM", "INTO") or (word == "UPDATE" and at == 0):
                self.asked[words[at + 1]] = self.asked.get(words[at + 1], 0) + 1
        return await super()._do(work, text)


class Server:
    """One of several, which follows what is revoked when it is told."""

    def __init__(self, made, connection):
        tools = made.tools
        self.connection = connection
        self.known = tools.store.known
        self.tools = made.tools = replace(tools, hot=tools.store.hot(tools.clock.now_us), shared=True)
        self.service = made
        self._refresher = Refresher(tools.realms, made.clock, None, self.known)

    def __getattr__(self, name):
        return getattr(self.service, name)

    async def follows(self):
        await self._refresher.tick()

    async def state(self, token, **more):
        """Whether the hot path lets it in."""
        try:
            await validating.validate(self.tools, self.realm(), "app", token, hot=True, **more)
        except SessionInvalid:
            return False
        return True

    async def costs(self, token, **more):
        """What a Validate that lets in reads of each table."""
        self.connection.asked.clear()
        assert await self.state(token, **more)
        return dict(self.connection.asked)


def two(test, *, known=True, **policy):
    """Two servers of one data centre, with connections of their own; they know what is revoked."""

    async def main():
        async with node.opened() as first:
            real = first._cluster.session
            first._cluster.session = Counting(real)
            a = await service(first, **policy)
            second = node.again(first)
            second._cluster.session = Counting(real)
            b = await service(second, ring=a.tools.keyring, seed=2, clock=a.clock)
            servers = [Server(one, one.tools.store._cluster.session) for one in (a, b)]
            for one in servers if known else ():
                await one.known.load()
                await one.follows()
            await test(*servers)

    asyncio.run(main())


@contextmanager
def dying(server, step):
    server.connection.dying = step
    with pytest.raises(Dies):
        yield
    server.connection.dying = ""


async def comes_back(server, session):
    """The row of a session as a replica had it that was away for long: newer than nothing, and there again."""
    where = f"WHERE realm = 'web' AND handle = '{session.handle}'"
    await server.connection.run(f"UPDATE sessions SET head = 0x{encode_session(session).hex()}, revision = 1 {where}")
    assert await server.tools.store._here.sessions.head("web", session.handle) == session


def test_what_is_not_revoked_is_one_read_by_key():
    async def test(a, b):
        made = [await a.create(subject) for subject in ("alice", "bob", "")]
        assert [await b.costs(one.token) for one in made] == [ONE] * 3
        # With data it is one, too; its key is the subject's.
        full = await a.create("carol", data={"k": b"v", "l": b"w"})
        for keys in (["k"], ["*"]):
            assert await b.costs(full.token, data_keys=keys) == {"sessions": 1, "subjects": 1}
        assert await data(b, full.token) == {"k": b"v", "l": b"w"}
        # Of a subject that was revoked before, its epoch is read too; of others nothing more.
        await revoking.revoke_subject(a.tools, a.realm(), "app", "alice")
        await a.clock.advance(1)
        again = await b.create("alice")
        await b.follows()
        assert await b.costs(again.token) == {"sessions": 1, "subject_epochs": 1}
        assert await b.costs(made[1].token) == ONE

    two(test)


def test_who_knows_nothing_reads_all_that_revokes():
    async def test(a, b):
        made = await a.create("alice")
        assert await b.costs(made.token) == ALL
        await b.follows()
        assert await b.costs(made.token) == ALL, "following alone is not knowing"
        await b.known.load()
        assert await b.costs(made.token) == ALL, "what came while it loaded is not known yet"
        await b.follows()
        assert await b.costs(made.token) == ONE

    two(test, known=False)


def test_ses_11_a_server_that_does_not_hear_asks_the_store_after_the_bound():
    async def test(a, b):
        made = await a.create("alice")
        for failing in ("FROM revocation_heads", "FROM revocations"):
            b.connection.failing = failing
            await revoking.revoke_token(a.tools, a.realm(), "app", (await a.create("bob")).token)
            with pytest.raises(Unavailable):
                await b.follows()
            assert await b.costs(made.token) == ONE
            await b.clock.advance(b.realm().policy.revocation_bound_us / 1e6 + 1)
            assert await b.costs(made.token) == {**ONE, **ALL}
            b.connection.failing = ""
            await b.follows()
            assert await b.costs(made.token) == ONE

    two(test)


REVOKES = {
    "token": lambda s, one, _: revoking.revoke_token(s.tools, s.realm(), "app", one.token),
    "handle": lambda s, one, _: revoking.revoke_handle(s.tools, s.realm(), "app", one.session.handle),
    "subject": lambda s, _, who: revoking.revoke_subject(s.tools, s.realm(), "app", who),
    "erased": lambda s, _, who: revoking.erase_subject(s.tools, s.realm(), "app", who),
}


def test_ses_09_what_another_server_answered_counts_here_at_once_whether_it_is_heard_or_not():
    async def test(a, b):
        for how, revoke in REVOKES.items():
            made = await a.create(how)
            assert await b.costs(made.token) == ONE
            await revoke(a, made, how)
            assert not await b.state(made.token)
            assert not await a.state(made.token)

    two(test)


def test_a_revocation_that_stopped_half_way_counts_everywhere_when_it_is_asked_for_again():
    async def test(a, b):
        for how, revoke in REVOKES.items():
            for step in ("INTO revocations", "DELETE head", "DELETE FROM subjects"):
                made = await a.create(how)
                assert await b.state(made.token)
                with dying(a, step):
                    await revoke(a, made, how)
                assert not await a.state(made.token), "this server knows of it"
                await revoke(a, made, how)
                assert not await b.state(made.token)
                await a.clock.advance(2)  # logins are not of the second of a revocation

    two(test)


def test_ses_10_a_row_that_comes_back_lets_nobody_in():
    async def test(a, b):
        made = {how: await a.create(how) for how in REVOKES}
        after = await a.create("bob")
        for how, revoke in REVOKES.items():
            await revoke(a, made[how], how)
        await a.follows()
        await b.follows()
        for one in made.values():
            await comes_back(a, one.session)

        async def lets_in(server):
            return [how for how, one in made.items() if await server.state(one.token)]

        assert not await lets_in(a) and not await lets_in(b)
        # So does a server without a memory, and one that has just filled it.
        fresh = node.again(a.tools.store)
        fresh._cluster.session = Counting(a.connection._real)
        c = Server(await service(fresh, ring=a.tools.keyring, seed=3, clock=a.clock), fresh._cluster.session)
        assert not await lets_in(c)
        await c.known.load()
        assert not await lets_in(c)
        await c.follows()
        assert not await lets_in(c)
        assert await c.costs(after.token) == ONE

    two(test)


def test_a_revocation_while_the_session_is_read_counts():
    async def test(a, b):
        made = await a.create("alice")
        b.connection.held = "FROM sessions"
        reading = asyncio.create_task(b.state(made.token))
        await b.connection.holds.wait()
        await revoking.revoke_handle(a.tools, a.realm(), "app", made.session.handle)
        b.connection.go.set()
        assert not await reading

    two(test)


@pytest.mark.parametrize(
    ("held", "limit"),
    [
        ("INTO sessions", 100),
        ("UPDATE subjects", 100),
        ("FROM subject_epochs", 100),
        ("INTO sessions", 0),
        ("FROM subject_epochs", 0),
    ],
)
def test_ses_09_a_login_while_all_of_the_subject_is_revoked_is_of_before_and_over_or_of_after(held, limit):
    async def test(a, b):
        a.connection.held = held
        coming = asyncio.create_task(a.create("alice"))
        await a.connection.holds.wait()
        await revoking.revoke_subject(b.tools, b.realm(), "app", "alice")
        who = pseudonyms.pseudonym(b.tools.keyring, "web", "alice")
        raised = await b.tools.store.subject_epoch("web", who)
        a.connection.go.set()
        came = await coming
        assert came.session.subject_stamp == raised.counters, "nobody is answered with a session that is over"
        assert await a.state(came.token) and await b.state(came.token)
        kept = await listing.by_subject(b.tools, b.realm(), "alice", None, 10)
        assert [one.handle for one in kept.sessions] == [came.session.handle]

    two(test, max_sessions_per_subject=limit)


@pytest.mark.parametrize("held", ["UPDATE subjects", "UPDATE sessions USING TTL"])
def test_ses_09_a_step_up_while_all_of_the_subject_is_revoked_ends_with_it(held):
    async def test(a, b):
        visitor = await a.create("")
        a.connection.held = held
        coming = asyncio.create_task(step_up(a, visitor.token, 1, "alice"))
        await a.connection.holds.wait()
        await revoking.revoke_subject(b.tools, b.realm(), "app", "alice")
        a.connection.go.set()
        came = await coming
        for one in (a, b):
            assert not await one.state(came.token) and not await one.state(visitor.token)

    two(test)


def test_numbers_that_are_gone_make_it_load_all_again():
    async def test(a, b):
        made, stays = await a.create("alice"), await a.create("bob")
        await revoking.revoke_token(a.tools, a.realm(), "app", made.token)
        await a.connection.run("TRUNCATE revocations")
        await comes_back(a, made.session)
        await b.follows()
        assert b.known.fresh_us is None
        assert not await b.state(made.token)
        assert await b.costs(stays.token) == ALL
        await b.known.load()
        await b.follows()
        assert not await b.state(made.token)
        assert await b.costs(stays.token) == ONE

    two(test)


def test_what_is_revoked_while_all_is_loaded_is_known_when_it_is_followed():
    async def test(a, b):
        made = [await a.create(f"u{at}") for at in range(12)]
        rng = random.Random(11)

        async def ends():
            for one in made[:9]:
                await REVOKES[rng.choice(["token", "handle"])](rng.choice((a, b)), one, "")

        async def loads():
            for _ in range(4):
                await b.known.load()
                await b.follows()

        await asyncio.gather(ends(), loads())
        await b.follows()
        for one in made[:9]:
            await comes_back(a, one.session)
        assert [await b.state(one.token) for one in made] == [False] * 9 + [True] * 3

    two(test)


def test_no_name_that_was_put_in_is_missing():
    rng = random.Random(5)
    names, put = Names(), [("web", rng.randbytes(32)) for _ in range(100_000)]
    for one in put:
        names.add(one)
    assert all(one in names for one in put)
    # Some of these are taken for names that were put in; of so many not all.
    assert any(("web", rng.randbytes(32)) not in names for _ in range(1000))
