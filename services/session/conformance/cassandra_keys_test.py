"""Keys that change while several servers share one Cassandra store, each with a file of its own: nobody makes with a
key that another one cannot open, and who was not seen serves nobody."""

import asyncio
from contextlib import contextmanager
from dataclasses import replace

import pytest

from libs.errors.errors import Unavailable
from services.session import fellows
from services.session.conformance import node
from services.session.conformance.harness import service
from services.session.conformance.keyholders import Server, give
from services.session.conformance.verbs import data, refused, valid
from services.session.crypto.keyring import RETIRING, Keyring, KeyringUnusable
from services.session.domain import listing, revoking
from services.session.domain.errors import KeyMadeWith, KeyNeeded, KeyNotEverywhere, KeysUnheard
from services.session.domain.policy import SECOND
from services.session.domain.rekeying import SETTLED_S
from services.session.fellows import BEAT_S, LEASE_S


@pytest.fixture(autouse=True)
def rows_that_stay(monkeypatch):
    """However long a test takes, who was seen lives."""
    monkeypatch.setattr(fellows, "ROW_S", 3600)


def several(test):
    """Two servers that have joined, and how to start another one with the keys of the first as they were."""

    async def main():
        async with node.opened() as store:
            first = await service(store)
            ring = Keyring(first.tools.keyring.everything())

            async def another(name, seed):
                made = await service(node.again(store), ring=Keyring(ring.everything()), seed=seed)
                return Server(name, made)

            a = Server("a", first)
            await a.notes.remember(a.ring)
            b = await another("b", 2)
            for one in (a, b):
                await one.fellowship.join()
            await test(a, b, another)

    asyncio.run(main())


@contextmanager
def short_lived(monkeypatch):
    """What is said now is forgotten in a second."""
    with monkeypatch.context() as patched:
        patched.setattr(fellows, "ROW_S", 1)
        yield


async def forgotten(server):
    while server.name in await server.tools.store.fellows.said():  # noqa: ASYNC110 - rows go without a word
        await asyncio.sleep(0.05)


def test_ses_15_a_key_is_promoted_when_every_server_has_it_and_opens_everywhere_from_then_on():
    async def test(a, b, _):
        before = await b.create("alice", data={"k": b"v"})
        key_id = a.file.add("seal")
        with pytest.raises(KeyNotEverywhere) as told:
            await a.keys.promote(key_id, "op")
        assert told.value.metadata == {"key_id": "seal-2", "servers": "b"}
        assert a.make("seal") == 1 and not await a.notes.wanted()
        # Nobody is worse off for it.
        await b.fellowship.tick()
        b.enters()
        other = Keyring(b.file.ring.everything())
        b.file.add("seal")
        await b.fellowship.tick()
        with pytest.raises(KeyNotEverywhere):
            await a.keys.promote(key_id, "op")  # a key of that name, and another one
        b.file.ring = other
        b.ring.take(other)
        give(key_id, a, b)
        await b.fellowship.tick()
        assert (await a.keys.promote(key_id, "op")).key_id == key_id
        assert (a.make("seal"), b.make("seal")) == (2, 1)
        made = [await s.create("alice", data={"k": s.name.encode()}) for s in (a, b)]
        for s in (a, b):
            assert [await data(s, one.token) for one in made] == [{"k": b"a"}, {"k": b"b"}]
            assert await data(s, before.token) == {"k": b"v"}
        await b.fellowship.tick()
        assert b.make("seal") == 2 and b.file.ring.active("seal").number == 2
        assert await a.tools.store.sealed_by(1) == 2 and await a.tools.store.sealed_by(2) == 1

    several(test)


@pytest.mark.parametrize("purpose", ["tag", "pepper"])
def test_tokens_of_a_promoted_key_are_good_at_servers_that_have_not_heard_of_it(purpose):
    async def test(a, b, _):
        key_id = a.file.add(purpose)
        give(key_id, a, b)
        await b.fellowship.tick()
        await a.keys.promote(key_id, "op")
        made = [await s.create("alice") for s in (a, b)]
        for s in (a, b):
            for one in made:
                await valid(s, one.token)
        await b.fellowship.tick()
        for one in made:
            await valid(b, one.token)

    several(test)


def test_a_server_that_stands_still_serves_nobody_until_it_has_looked_again(monkeypatch):
    async def test(a, b, _):
        made = await b.create("alice", data={"k": b"v"})
        with short_lived(monkeypatch):
            await b.fellowship.tick()
        await b.passes(LEASE_S - 1)
        b.enters()
        await forgotten(b)
        # Nobody waits for it: it lacks the key that is promoted meanwhile.
        key_id = a.file.add("seal")
        await a.keys.promote(key_id, "op")
        await b.passes(1)
        with pytest.raises(KeysUnheard):
            b.enters()
        assert b.enters("Revoke")
        # What was under way makes nothing that the others might forget the key of.
        with pytest.raises(Unavailable):
            await b.create("bob", data={"k": b"w"})
        assert not (await listing.by_subject(a.tools, a.realm(), "bob", None, 10)).sessions
        with pytest.raises(KeyringUnusable, match="lacks seal-2"):
            await b.fellowship.tick()
        with pytest.raises(KeysUnheard):
            b.enters()
        give(key_id, a, b)
        await b.fellowship.tick()
        b.enters()
        assert b.make("seal") == 2
        late = await b.create("bob", data={"k": b"w"})
        assert await data(a, late.token) == {"k": b"w"} and await data(b, made.token) == {"k": b"v"}

    several(test)


def test_a_server_that_starts_without_the_key_in_use_or_about_to_be_is_refused():
    async def test(a, b, another):
        key_id = a.file.add("tag")
        # Its row is there too late for the one that promotes: it must see that.
        await a.notes.want(key_id)
        late = await another("c", 3)
        with pytest.raises(KeyringUnusable, match="lacks tag-2"):
            await late.fellowship.join()
        with pytest.raises(KeysUnheard):
            late.enters()
        await a.notes.done(key_id)
        for one in (b, late):
            give(key_id, a, one)
            await one.fellowship.join()
        await a.keys.promote(key_id, "op")
        assert not await a.notes.wanted()
        stranger = await another("d", 4)
        with pytest.raises(KeyringUnusable, match="lacks tag-2"):
            await stranger.fellowship.join()
        give(key_id, a, stranger)
        await stranger.fellowship.join()
        assert stranger.make("tag") == 2

    several(test)


def test_ses_15_a_key_is_retired_when_nobody_makes_with_it_and_goes_from_every_file():
    async def test(a, b, _):
        made = [await s.create("alice", data={"k": s.name.encode()}, shared={"s": b"w"}) for s in (a, b)]
        key_id = a.file.add("seal")
        give(key_id, a, b)
        await b.fellowship.tick()
        await a.keys.promote(key_id, "op")
        await a.fellowship.tick()
        with pytest.raises(KeyNeeded):
            await a.keys.retire("seal-1", "op")
        for one in (a, b):
            await one.passes(SETTLED_S + 1)
        await a.fellowship.tick()
        with pytest.raises(KeyMadeWith) as told:
            await a.keys.retire("seal-1", "op")
        assert told.value.metadata["servers"] == "b"
        await b.fellowship.tick()
        made.append(await b.create("carol", data={"k": b"c"}))
        while not (await a.keys.retire("seal-1", "op")).done:
            pass
        assert await a.tools.store.sealed_by(1) == 0 and await a.tools.store.sealed_by(2) == 3
        for s in (a, b):
            assert [await data(s, one.token) for one in made] == [{"k": b"a"}, {"k": b"b"}, {"k": b"c"}]
        await b.fellowship.tick()
        for s in (a, b):
            ids = {key.key_id for ring in (s.ring, s.file.ring) for key in ring.everything()}
            assert "seal-1" not in ids and "seal-2" in ids
            assert [await data(s, one.token) for one in made] == [{"k": b"a"}, {"k": b"b"}, {"k": b"c"}]
        # A server that noted at the same moment what it has brings nothing back.
        await a.notes.remember(Keyring([*b.ring.everything(), *made_again(a)]))
        assert "seal-1" not in await b.notes.used() and "seal-1" in await b.notes.retired()
        await revoking.revoke_subject(b.tools, b.realm(), "app", "alice")
        await refused(a, made[0].token)

    several(test)


def made_again(server):
    """A retired key as a file of before has it."""
    key = server.ring.active("seal")
    return [replace(key, number=1, state=RETIRING, superseded_s=1)]


def test_a_file_without_a_key_at_work_or_with_another_of_its_name_changes_nothing():
    async def test(a, b, _):
        made = await b.create("alice", data={"k": b"v"})
        whole = b.file.ring
        key = whole.active("seal")
        b.file.ring = Keyring([replace(key, secret=bytes(32)), *(k for k in whole.everything() if k != key)])
        with pytest.raises(KeyringUnusable, match="another key of the name seal-1"):
            await b.fellowship.tick()
        assert b.ring.active("seal") == key and await data(b, made.token) == {"k": b"v"}
        await b.passes(LEASE_S + BEAT_S)
        with pytest.raises(KeysUnheard):
            b.enters()
        b.file.ring = whole
        await b.fellowship.tick()
        b.enters()
        assert b.tools.clock.now_us() > SECOND

    several(test)
