"""Keys that change while servers of two data centres share a store: every one of them has what is made with, wherever
it is; while one data centre cannot be asked or told, no key changes."""

import pytest

from services.session import fellows
from services.session.conformance.datacentres import Site, cut, played, stopped, unreachable, whole
from services.session.conformance.keyholders import Server, give
from services.session.conformance.verbs import data, refused, rotate, valid
from services.session.crypto.keyring import Keyring, KeyringUnusable
from services.session.domain.errors import HomeUnreachable, KeyMadeWith, KeyNeeded, KeyNotEverywhere, KeysUnheard
from services.session.domain.rekeying import SETTLED_S


@pytest.fixture(autouse=True)
def rows_that_stay(monkeypatch):
    """However long a test takes, who was seen lives."""
    monkeypatch.setattr(fellows, "ROW_S", 3600)


def holding(test):
    """A server in each data centre that has joined, with a keyring and a file of its own."""

    async def begun(*sites: Site):
        for table in ("servers", "notes", "sessions", "subjects"):
            await sites[0].store._cluster.session.run(f"TRUNCATE {table}")
        both = [Server("s", site) for site in sites]
        await both[0].notes.remember(both[0].ring)
        await whole(*sites)
        for one in both:
            await one.fellowship.join()
        await test(*both)

    played(begun)


async def heard(*both):
    """All that was revoked is whole here, however long it took."""
    for one, other in (both, both[::-1]):
        await one.made.hears(other.made)


async def retired(server, key_id):
    while not (await server.keys.retire(key_id, "op")).done:
        pass


async def sealed_by(server, number):
    """How many keys of each home are sealed by a key of the keyring."""
    return [await server.tools.store.care_at(home).sealed_by(number) for home in ("east", "west")]


def test_ses_15_a_key_is_promoted_when_the_servers_of_all_data_centres_have_it():
    async def test(east, west):
        old = Keyring(west.ring.everything())
        before = [await one.create("alice", data={"k": b"v"}) for one in (east, west)]
        key_id = east.file.add("seal")
        with pytest.raises(KeyNotEverywhere) as told:
            await east.keys.promote(key_id, "op")
        assert told.value.metadata["servers"] == "west/s"
        assert not await west.notes.wanted() and not await east.notes.wanted()
        give(key_id, east, west)
        await west.fellowship.tick()
        await east.keys.promote(key_id, "op")
        assert (east.make("seal"), west.make("seal")) == (2, 1)
        made = [await one.create("bob", data={"k": b"w"}) for one in (east, west)]
        for one in (east, west):
            assert [await data(one, m.token) for m in (*before, *made)] == [{"k": b"v"}] * 2 + [{"k": b"w"}] * 2
        # West needs nobody to hear of it, and whoever begins there does not begin without it.
        with cut():
            await west.fellowship.tick()
            assert west.make("seal") == 2
            late = Server("late", await west.made.again())
            late.file.ring = old
            late.ring.take(old)
            with pytest.raises(KeyringUnusable, match="lacks seal-2"):
                await late.fellowship.join()
            await late.tools.store.close()

    holding(test)


def test_ses_15_no_key_changes_while_a_data_centre_cannot_be_asked_or_told():
    async def test(east, west):
        key_id = east.file.add("tag")
        give(key_id, east, west)
        await west.fellowship.tick()
        with unreachable(east.made, "west"), pytest.raises(KeysUnheard) as told:
            await east.keys.promote(key_id, "op")
        assert told.value.metadata == {"datacentre": "west"}
        with stopped("west"):
            with pytest.raises(KeysUnheard):
                await east.keys.promote(key_id, "op")
            # Nor would it be one that is away from here on.
            for noting in (
                east.notes.want(key_id),
                east.notes.promoted(east.ring, key_id),
                east.notes.forget("tag-9", 1),
            ):
                with pytest.raises(KeysUnheard):
                    await noting
        await whole(east.made, west.made)
        assert east.make("tag") == east.file.ring.active("tag").number == 1
        await east.keys.promote(key_id, "op")
        await west.fellowship.tick()
        await east.passes(SETTLED_S + 1)
        await heard(east, west)
        for one in (east, west):
            await one.fellowship.tick()
        with unreachable(east.made, "west"), pytest.raises(KeysUnheard):
            await east.keys.retire("tag-1", "op")
        with cut(), pytest.raises(KeysUnheard):
            await west.keys.retire("tag-1", "op")
        await whole(east.made, west.made)
        await retired(west, "tag-1")
        await east.fellowship.tick()
        assert all("tag-1" not in {key.key_id for key in one.ring.everything()} for one in (east, west))

    holding(test)


def test_ses_15_a_key_is_retired_when_no_home_needs_it_and_no_data_centre_makes_with_it():
    async def test(east, west):
        made = [await one.create("alice", data={"k": one.made.name.encode()}) for one in (east, west)]
        opened = [{"k": b"east"}, {"k": b"west"}]
        key_id = east.file.add("seal")
        give(key_id, east, west)
        await west.fellowship.tick()
        await east.keys.promote(key_id, "op")
        await east.passes(SETTLED_S + 1)
        await heard(east, west)
        await east.fellowship.tick()
        with pytest.raises(KeyMadeWith) as told:
            await east.keys.retire("seal-1", "op")
        assert told.value.metadata["servers"] == "west/s"
        await west.fellowship.tick()
        assert await sealed_by(east, 1) == [1, 1]
        await retired(east, "seal-1")
        assert await sealed_by(east, 1) == [0, 0] and await sealed_by(west, 2) == [1, 1]
        await west.fellowship.tick()
        for one in (east, west):
            assert "seal-1" not in {key.key_id for key in (*one.ring.everything(), *one.file.ring.everything())}
            assert [await data(one, m.token) for m in made] == opened
        # A copy that the newer form has not reached is sealed by a key that nobody has: it is asked for at home.
        west.tools.store.fellows.opens = lambda number: number != 2
        assert await data(west, made[0].token) == opened[0]
        with unreachable(west.made, "east"), pytest.raises(HomeUnreachable):
            await data(west, made[0].token)

    holding(test)


def test_a_key_that_a_session_of_another_home_needs_is_not_retired():
    async def test(east, west):
        made = await west.create("alice")
        purposes = ("tag", "pepper")
        for key_id in [east.file.add(purpose) for purpose in purposes]:
            give(key_id, east, west)
            await west.fellowship.tick()
            await east.keys.promote(key_id, "op")
        await west.fellowship.tick()
        await east.passes(SETTLED_S + 1)
        await heard(east, west)
        for one in (east, west):
            await one.fellowship.tick()
        for purpose in purposes:
            with pytest.raises(KeyNeeded):
                await retired(east, f"{purpose}-1")
        await valid(east, made.token)
        child = await rotate(west, made.token)
        await valid(east, child.token)
        await valid(west, child.token)
        await west.made.tools.store.remove(west.realm().name, [made.session.handle])
        for purpose in purposes:
            await retired(east, f"{purpose}-1")
        await refused(west, child.token)

    holding(test)
