"""The feed of revocations: each way to end a session is in it once, in order; nothing is lost, over restarts either."""

import asyncio
import tempfile
from hashlib import sha256

import pytest

from services.session.conformance.harness import QUICK, STORES, over, service
from services.session.crypto import pseudonyms
from services.session.domain import revoking
from services.session.domain.model import REVOCATIONS_KEPT_US, RevocationKind
from services.session.store.embedded import EmbeddedStore

each = pytest.mark.parametrize("name", STORES)


def hashed(minted):
    return sha256(minted.session.handle.encode()).digest()


async def kinds(s, after=0, realm="web"):
    found = (await s.tools.store.revocations(realm, after, 1000)).found
    return [(one.kind.name, one.name) for one in found]


@each
def test_each_way_to_revoke_is_told_once_and_in_order(name):
    async def test(s):
        one, two, three, four = [await s.create(f"u{n}") for n in range(4)]
        again = await s.create("u3")
        await s.create("elsewhere", realm="app")
        web = s.realm()
        await revoking.revoke_token(s.tools, web, "app", one.token)
        await revoking.revoke_token(s.tools, web, "app", one.token)
        await revoking.revoke_handle(s.tools, web, "app", two.session.handle)
        await revoking.revoke_subject(s.tools, web, "app", "u2")
        await revoking.revoke_others(s.tools, web, "app", again.token)
        await revoking.revoke_realm(s.tools, web, "app")
        subject = pseudonyms.pseudonym(s.tools.keyring, "web", "u2")
        assert await kinds(s) == [
            ("SESSION", hashed(one)),
            ("SESSION", hashed(two)),
            ("SUBJECT", subject),
            ("SESSION", hashed(three)),
            ("SESSION", hashed(four)),
            ("REALM", b""),
        ]
        everything = await s.tools.store.revocations("web", 0, 1000)
        assert [one.sequence for one in everything.found] == [1, 2, 3, 4, 5, 6]
        assert (everything.oldest, everything.newest) == (1, 6)
        assert await kinds(s, realm="app") == []

    over(name, test)


@each
def test_pieces_follow_each_other_whatever_their_size(name):
    async def test(s):
        for n in range(23):
            minted = await s.create(f"u{n}")
            await revoking.revoke_handle(s.tools, s.realm(), "app", minted.session.handle)
        whole = await kinds(s)
        for size in (1, 5, 23, 50):
            at, found = 0, []
            while piece := (await s.tools.store.revocations("web", at, size)).found:
                found += [(one.kind.name, one.name) for one in piece]
                at = piece[-1].sequence
            assert found == whole and len(whole) == 23

    over(name, test)


@each
def test_a_limit_that_evicts_tells_who_went(name):
    async def test(s):
        first = await s.create("u")
        await s.clock.advance(1)
        await s.create("u")
        await s.create("u")
        assert await kinds(s) == [("SESSION", hashed(first))]

    over(name, test, max_sessions_per_subject=2)


@each
def test_old_ones_go_and_numbers_go_on(name):
    async def test(s):
        for n in range(5):
            minted = await s.create(f"u{n}")
            await revoking.revoke_handle(s.tools, s.realm(), "app", minted.session.handle)
        while await s.tools.store.prune(s.tools.clock.now_us() + 2 * REVOCATIONS_KEPT_US, 100):
            pass
        left = await s.tools.store.revocations("web", 0, 100)
        assert (left.oldest, left.newest, len(left.found)) == (5, 5, 1)
        await revoking.revoke_realm(s.tools, s.realm(), "app")
        after = await s.tools.store.revocations("web", 5, 100)
        assert [(one.sequence, one.kind) for one in after.found] == [(6, RevocationKind.REALM)]

    over(name, test)


def test_numbers_outlive_restarts():
    async def story():
        with tempfile.TemporaryDirectory() as path:
            ring = None
            for life in range(3):
                store = EmbeddedStore.open(path, QUICK)
                s = await service(store, ring=ring, seed=life + 1)
                ring = s.tools.keyring
                minted = await s.create(f"u{life}")
                await revoking.revoke_handle(s.tools, s.realm(), "app", minted.session.handle)
                told = await store.revocations("web", 0, 100)
                assert [one.sequence for one in told.found] == list(range(1, life + 2))
                await store.close()

    asyncio.run(story())
