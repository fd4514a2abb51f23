"""Opaque realms over two data centres: one key opens the values in both, the last write wins, and what was deleted in
one is not revived in the other, whatever the replication brings, and when."""

import asyncio
import contextlib
import secrets

import pytest

from libs.paging.paging import PageTokens
from services.session import watching
from services.session.conformance.datacentres import cut, dead, missed, over_the_bound, played, unreachable, whole
from services.session.conformance.opaque_rig import KEY, TTL_S
from services.session.crypto import opaque as crypto
from services.session.domain.errors import HomeUnreachable, KeyDeleted, Stale, ValueNotFound
from services.session.domain.opaque import OpaqueValues
from services.session.domain.opaque_model import OPAQUE_REALM, key_subject
from services.session.domain.opaque_sweeping import OpaqueSweeper
from services.session.domain.policy import SECOND, Kind, Partition, Policy
from wellspring.session.v1 import session_pb2 as pb

LATER = b"wiki:MWSession:later"


class Wiki:
    """An opaque realm at a site."""

    def __init__(self, site, name):
        self.site, self.name = site, name
        self.values = OpaqueValues(site.tools)
        self.sweeper = OpaqueSweeper(site.tools, SECOND)

    @property
    def realm(self):
        return self.site.tools.realms.get(self.name)

    def entered(self):
        return self.values.enter(self.name, "mw", "GET")

    async def get(self, key=KEY):
        try:
            return await self.values.get(self.realm, key)
        except ValueNotFound:
            return None

    async def put(self, value, key=KEY):
        await self.values.put(self.realm, "mw", key, value)

    async def delete(self, key=KEY):
        await self.values.delete(self.realm, "mw", key)

    async def becomes(self, value, key=KEY):
        """What was written elsewhere arrives by itself."""
        async with asyncio.timeout(60):
            while await self.get(key) != value:  # noqa: ASYNC110 - another data centre knows
                await asyncio.sleep(0.05)


def over_wikis(test, **policy):
    """The realm in both data centres."""

    async def begun(east, west):
        name = f"wiki{secrets.token_hex(4)}"
        await east.tools.realms.create(name, Policy(kind=Kind.OPAQUE, ttl_us=TTL_S * SECOND, **policy))
        for site in (east, west) * 2:
            await site.clock.advance(0.01)
            await site.tick()
        await test(Wiki(east, name), Wiki(west, name))

    played(begun)


async def heard(*wikis):
    """Each has all that the other one revoked and deleted, of every realm."""
    for one, other in (wikis, wikis[::-1]):
        await one.site.hears(other.site)
        async with asyncio.timeout(60):
            while one.site.tools.realms.listening.staleness_us(one.name, one.site.tools.clock.now_us()) > SECOND:
                await other.site.tick()
                await one.site.tick()


async def told(wiki, resume=""):
    """What a watcher of the realm is told next."""
    request = pb.WatchRevocationsRequest(realm=wiki.name, resume_token=resume)
    pages = PageTokens([bytes(32)], wiki.site.clock)
    async with contextlib.aclosing(watching.watch(wiki.site.tools, pages, request, "app")) as answers:
        return await anext(answers)


def test_a_value_written_in_one_data_centre_is_read_and_ended_in_the_other():
    async def test(east, west):
        # The key of the realm is one, whoever is first.
        await asyncio.gather(east.put(b"one"), west.put(b"two", LATER))
        await west.becomes(b"one")
        await east.becomes(b"two", LATER)
        await west.put(b"three")
        await east.becomes(b"three")
        first = await told(west)
        await east.delete()
        assert await east.get() is None
        await heard(east, west)
        for wiki in (east, west):
            assert await wiki.get() is None
            with pytest.raises(KeyDeleted):
                await wiki.put(b"late")
        assert await west.get(LATER) == b"two"
        await west.sweeper.tick()
        await east.site.tools.realms.revoke(east.name)
        await heard(east, west)
        assert await east.sweeper.tick()
        await heard(east, west)
        # Who watches the realm hears of that, and nothing of single keys; nor is told what the other one swept.
        then = await told(west, first.resume_token)
        assert [one.whole_realm for one in then.revocations] == [True]
        assert {beat.origin: beat.sequence for beat in then.heartbeats} == {"east": 2, "west": 0}
        assert await west.get(LATER) is None
        with pytest.raises(KeyDeleted):
            await west.put(b"late", LATER)

    over_wikis(test)


def test_ses_10_what_was_deleted_while_a_data_centre_was_dead_is_deleted_there_before_it_serves():
    async def test(east, west):
        for key in (KEY, LATER):
            await east.put(b"one", key)
            await west.becomes(b"one", key)
        async with dead("west"):
            await east.delete()
        await whole(east.site, west.site)
        # Nothing of it has come by itself.
        assert await west.get() == b"one"
        await over_the_bound(west.site)
        await west.site._refresher.tick()
        with pytest.raises(Stale):
            west.entered()
        await heard(east, west)
        west.entered()
        assert await west.get() is None and await west.get(LATER) == b"one"
        with pytest.raises(KeyDeleted):
            await west.put(b"late")
        await east.site.clock.advance(TTL_S + 1)
        for wiki in (east, west):
            await wiki.site.tools.realms.refresh()
        await west.put(b"new")
        await east.becomes(b"new")

    over_wikis(test)


def test_ses_10_a_value_that_was_written_beside_its_deletion_elsewhere_is_gone_when_that_is_heard():
    async def test(east, west):
        await east.put(b"one")
        await west.becomes(b"one")
        with cut():
            await east.delete()
            # West serves on by itself, and its callers write the session again.
            await west.site.clock.advance(TTL_S - 1)
            await west.site.tools.realms.refresh()
            west.entered()
            await west.put(b"again")
            assert await west.get() == b"again"
            await missed()
        await whole(east.site, west.site)
        await heard(east, west)
        assert await west.get() is None and await east.get() is None
        # Nor does it outlive the tombstone.
        await east.site.clock.advance(2)
        for wiki in (east, west):
            (name,) = crypto.names(wiki.site.tools.keyring, wiki.name, KEY)
            assert await wiki.site.store.opaque._cell(wiki.name, name) is None
            assert await wiki.get() is None

    over_wikis(test, on_partition=Partition.SERVE_LOCAL)


def test_a_data_centre_that_has_not_the_realms_key_asks_for_it_and_makes_no_other():
    async def test(east, west):
        # Known to one data centre before there were two: what was sealed then is read on.
        vault, store = east.site.tools.vault, east.site.store
        before, sealed = await vault.ensured_key(east.name, OPAQUE_REALM)
        assert await store.opaque.keep_key(east.name, OPAQUE_REALM, sealed.sealed, "east")
        with unreachable(west.site, "east"), pytest.raises(HomeUnreachable):
            await west.put(b"one")
        await west.put(b"one")
        subject = key_subject(west.realm.created_us)
        for wiki in (east, west):
            found = await wiki.site.tools.vault.subject_key(wiki.name, subject, home="east")
            assert found is not None and found[0] == before
        await east.becomes(b"one")
        # It is there by now, and nobody is asked.
        async with asyncio.timeout(60):
            lists = next(one for one in west.site.store._here.lists if one.home == "east")
            while await lists.key(west.name, subject) is None:  # noqa: ASYNC110 - the replication brings it
                await asyncio.sleep(0.05)
        with unreachable(west.site, "east"):
            assert await west.get() == b"one"

    over_wikis(test)
