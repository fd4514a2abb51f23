"""Opaque realms over every store: one TTL, deletions that no late write undoes, sweeping, limits."""

import asyncio
import random

import pytest

from services.session.conformance.harness import STORES
from services.session.conformance.opaque_rig import KEY, TTL_S, opaque, over_opaque
from services.session.domain.errors import DataTooLarge, KeyDeleted, RealmNotFound, ValueNotFound
from services.session.domain.opaque_model import OPAQUE_REALM
from services.session.domain.policy import SECOND, Caller, Kind, Policy


@pytest.mark.parametrize("store", STORES)
def test_a_value_lives_for_one_ttl_after_its_last_write(store):
    async def test(o):
        assert await o.get() is None
        await o.put(b"one")
        await o.s.clock.advance(TTL_S - 1)
        assert await o.get() == b"one"
        await o.put(b"two")
        await o.s.clock.advance(TTL_S - 1)
        assert await o.get() == b"two"
        # Reading moves nothing.
        await o.s.clock.advance(1.5)
        assert await o.get() is None
        # An expired key is no deleted one.
        await o.put(b"three")
        assert await o.get() == b"three"
        first, second = o.s.events.of("opaque_created")
        assert first == second and len(first["handle"]) == 43

    over_opaque(store, test)


@pytest.mark.parametrize("store", STORES)
def test_SES_10_a_deleted_key_is_refused_for_a_ttl(store):
    async def test(o):
        await o.put(b"one")
        await o.s.clock.advance(1000)
        await o.delete()
        assert await o.get() is None
        for _ in range(4):
            await o.s.clock.advance(TTL_S / 5)
            with pytest.raises(KeyDeleted):
                await o.put(b"late")
            assert await o.get() is None
        await o.delete()  # harmless, and lasts from now on
        await o.s.clock.advance(TTL_S - 1)
        with pytest.raises(KeyDeleted):
            await o.put(b"late")
        await o.sweeper.tick()
        with pytest.raises(KeyDeleted):
            await o.put(b"late")
        await o.s.clock.advance(2)
        await o.sweeper.tick()
        await o.put(b"new")
        assert await o.get() == b"new"
        # Also a key that nobody ever wrote: the write may be on its way.
        await o.delete(b"never")
        with pytest.raises(KeyDeleted):
            await o.put(b"late", b"never")
        assert len(o.s.events.of("opaque_deleted")) == 1 and len(o.s.events.of("opaque_refused")) == 7

    over_opaque(store, test)


@pytest.mark.parametrize("store", STORES)
def test_SES_09_SES_10_a_realm_revoked_as_a_whole_is_as_if_every_key_had_been_deleted(store):
    async def test(o):
        await o.put(b"one", b"a")
        await o.s.clock.advance(TTL_S / 2)
        await o.s.tools.realms.revoke("wiki")
        assert await o.get(b"a") is None
        with pytest.raises(KeyDeleted):
            await o.put(b"late", b"a")
        await o.put(b"new", b"b")
        # The value goes with the next tick; the refusal stays.
        assert await o.sweeper.tick() == 1 and await o.store.opaque.count("wiki") == 1
        await o.s.clock.advance(TTL_S - 1)
        with pytest.raises(KeyDeleted):
            await o.put(b"late", b"a")
        await o.s.clock.advance(2)
        await o.put(b"again", b"a")
        assert await o.get(b"a") == b"again" and await o.get(b"b") is None

    over_opaque(store, test)


@pytest.mark.parametrize("store", STORES)
def test_a_shorter_ttl_counts_at_once_and_a_deletion_outlives_the_longer_one(store):
    async def test(o):
        await o.put(b"one", b"a")
        await o.put(b"one", b"b")
        await o.s.set_policy("wiki", ttl_us=60 * SECOND)
        await o.delete(b"b")
        await o.s.clock.advance(61)
        assert await o.get(b"a") is None
        with pytest.raises(KeyDeleted):
            await o.put(b"late", b"b")
        await o.put(b"two", b"a")
        await o.s.set_policy("wiki", ttl_us=TTL_S * SECOND)
        await o.s.clock.advance(61)
        assert await o.get(b"a") is None

    over_opaque(store, test)


@pytest.mark.parametrize("store", STORES)
def test_the_sweeper_removes_what_is_over_and_nothing_else(store):
    async def test(o):
        for i in range(250):
            await o.put(b"v", b"old%d" % i)
        await o.s.clock.advance(TTL_S - 10)
        for i in range(50):
            await o.put(b"v", b"young%d" % i)
        await o.put(b"v", b"old7")
        assert await o.sweeper.tick() == 0
        await o.s.clock.advance(11)
        assert await o.sweeper.tick() == 249
        assert await o.store.opaque.count("wiki") == 51 and await o.get(b"old7") == b"v"
        assert len(o.s.events.of("opaque_swept")) == 249
        # With the realm all of it goes, its key as well; a realm of the same name begins anew.
        before = await o.store.subject_key("wiki", OPAQUE_REALM)
        await o.store.prune(o.s.tools.clock.now_us(), 1000)
        assert before is not None and await o.store.subject_key("wiki", OPAQUE_REALM) == before
        await o.s.tools.realms.delete("wiki", "")
        assert await o.sweeper.tick() == 51
        await o.store.prune(o.s.tools.clock.now_us(), 1000)
        assert await o.store.subject_key("wiki", OPAQUE_REALM) is None
        await o.s.tools.realms.create("wiki", Policy(kind=Kind.OPAQUE))
        assert await o.get(b"old7") is None
        await o.put(b"new", b"old7")
        assert await o.store.subject_key("wiki", OPAQUE_REALM) not in (None, before)
        other = await opaque(o.store, clock=o.s.clock, ring=o.s.tools.keyring)
        assert await other.get(b"old7") == b"new"

    over_opaque(store, test)


@pytest.mark.parametrize("store", STORES)
def test_SES_31_realms_are_apart_and_each_has_its_callers(store):
    async def test(o):
        await o.s.tools.realms.create("other", Policy(kind=Kind.OPAQUE, callers=(Caller("cn:a", ("GET",)),)))
        await o.put(b"v")
        other = o.s.realm("other")
        with pytest.raises(ValueNotFound):
            await o.values.get(other, KEY)
        await o.values.delete(other, "x", KEY)
        assert await o.get() == b"v"
        assert o.values.enter("other", "cn:a", "GET") is other
        for name, caller, method in (
            ("other", "cn:a", "POST"),
            ("other", "cn:b", "GET"),
            ("web", "cn:a", "GET"),
            ("none", "cn:a", "GET"),
        ):
            with pytest.raises(RealmNotFound):
                o.values.enter(name, caller, method)

    over_opaque(store, test)


@pytest.mark.parametrize("store", STORES)
def test_SES_30_limits_of_size(store):
    async def test(o):
        await o.put(b"x" * (1000 - len(KEY)))
        with pytest.raises(DataTooLarge):
            await o.put(b"x" * (1001 - len(KEY)))
        assert len(await o.get()) == 1000 - len(KEY)

    over_opaque(store, test, max_data_bytes=1000)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("seed", range(8))
def test_SES_10_no_sequence_of_calls_shows_a_deleted_value(store, seed):
    print("seed", seed)
    rng = random.Random(seed)

    async def test(o):
        keys = [b"k%d" % i for i in range(5)]
        values, dead = {}, {}

        def now():
            return o.s.tools.clock.now_us()

        async def one(key):
            what = rng.random()
            if what < 0.4:
                value = rng.randbytes(8)
                begun = now()
                try:
                    await o.put(value, key)
                    assert dead.get(key, 0) <= begun + 1000
                    values[key] = value, begun + TTL_S * SECOND
                except KeyDeleted:
                    assert dead[key] > begun - 1000
            elif what < 0.55:
                await o.delete(key)
                dead[key] = now() + TTL_S * SECOND
                values.pop(key, None)
            elif what < 0.9:
                there, until = values.get(key, (None, 0))
                begun = now()
                got = await o.get(key)
                assert got == there if begun < until - 1000 else got in (there, None)
                if begun > until + 1000:
                    assert got is None
            elif what < 0.98:
                await o.s.clock.advance(rng.random() * TTL_S / 2)
                await o.sweeper.tick()
            else:
                await o.s.tools.realms.revoke("wiki")
                for key in values:
                    dead[key] = now() + TTL_S * SECOND
                values.clear()

        for _ in range(400):
            await one(rng.choice(keys))

    over_opaque(store, test)


@pytest.mark.parametrize("store", STORES)
def test_posts_and_deletes_at_once_leave_the_key_deleted(store):
    async def test(o):
        await o.put(b"first")

        async def put(i):
            try:
                await o.put(b"%d" % i)
            except KeyDeleted:
                return False
            return True

        work = [put(i) for i in range(25)] + [o.delete()] + [put(i) for i in range(25, 50)]
        results = await asyncio.gather(*work)
        assert await o.get() is None and False in results
        with pytest.raises(KeyDeleted):
            await o.put(b"late")

    over_opaque(store, test)
