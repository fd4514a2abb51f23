"""Opaque realms over every store: one TTL, deletions that no late write undoes, values that need their key to open."""

import asyncio
import base64
import logging
import random
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from libs.clock.virtual import VirtualClock
from services.session.conformance.harness import QUICK, STORES, files, opened, service
from services.session.crypto import keyring as keyrings
from services.session.crypto import opaque as crypto
from services.session.crypto import rotation
from services.session.crypto.keyring import ACTIVE, RETIRING, Key, Keyring
from services.session.crypto.sealing import SealBroken
from services.session.domain.errors import DataTooLarge, KeyDeleted, KeyNeeded, RealmNotFound, ValueNotFound
from services.session.domain.opaque import OpaqueValues
from services.session.domain.opaque_model import OPAQUE_REALM
from services.session.domain.opaque_sweeping import OpaqueSweeper
from services.session.domain.policy import HOUR, SECOND, Caller, Kind, Policy
from services.session.domain.rekeying import SETTLED_S, Rekeying
from services.session.events import ToldEvents
from services.session.keyring_file import Notes
from services.session.store.embedded import EmbeddedStore
from services.session.store.memory import MemoryStore

KEY = b"wiki:MWSession:0123456789abcdef0123456789abcdef"
TTL_S = 3600


class Opaque:
    """An opaque realm "wiki" over a store."""

    def __init__(self, s, store):
        self.s, self.store = s, store
        self.values = OpaqueValues(s.tools)
        self.sweeper = OpaqueSweeper(s.tools, SECOND)

    @property
    def realm(self):
        return self.s.realm("wiki")

    async def get(self, key=KEY):
        try:
            return await self.values.get(self.realm, key)
        except ValueNotFound:
            return None

    async def put(self, value, key=KEY):
        await self.values.put(self.realm, "mw", key, value)

    async def delete(self, key=KEY):
        await self.values.delete(self.realm, "mw", key)


async def opaque(store, *, clock=None, ring=None, seed=1, **policy):
    s = await service(store, clock=clock, ring=ring, seed=seed)
    if s.tools.realms.get("wiki") is None:
        await s.tools.realms.create("wiki", Policy(kind=Kind.OPAQUE, ttl_us=TTL_S * SECOND, **policy))
    return Opaque(s, store)


def over_opaque(name, test, **policy):
    clock = VirtualClock()

    async def main():
        async with opened(name) as store:
            await test(await opaque(store, clock=clock, **policy))

    clock.run(main(), patience_s=0.005)


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
def test_a_deleted_key_is_refused_for_a_ttl(store):
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
def test_a_realm_revoked_as_a_whole_is_as_if_every_key_had_been_deleted(store):
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
def test_realms_are_apart_and_each_has_its_callers(store):
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
def test_limits_of_size(store):
    async def test(o):
        await o.put(b"x" * (1000 - len(KEY)))
        with pytest.raises(DataTooLarge):
            await o.put(b"x" * (1001 - len(KEY)))
        assert len(await o.get()) == 1000 - len(KEY)

    over_opaque(store, test, max_data_bytes=1000)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("seed", range(8))
def test_no_sequence_of_calls_shows_a_deleted_value(store, seed):
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


def rings():
    """Makes keyrings that differ in their peppers alone: [(number, state), …]."""
    base = keyrings.generate(1)
    keys = [key for key in base.everything() if key.purpose != "pepper"]
    return lambda ps: Keyring([*keys, *(Key("pepper", n, state, bytes([n]) * 32, 1) for n, state in ps)])


@pytest.mark.parametrize("store", STORES)
def test_a_new_pepper_takes_over_with_each_write_and_the_old_one_goes_with_the_ttl(store):
    make = rings()
    clock = VirtualClock()

    async def main():
        async with opened(store) as kept:
            one = await opaque(kept, clock=clock, ring=make([(1, ACTIVE)]))
            for key in (b"read", b"written", b"deleted", b"gone"):
                await one.put(b"1", key)
            await one.delete(b"gone")
            two = await opaque(kept, clock=clock, ring=make([(1, RETIRING), (2, ACTIVE)]), seed=2)
            assert await two.get(b"read") == b"1"
            await two.put(b"2", b"written")
            await two.delete(b"deleted")
            assert await two.get(b"written") == b"2" and await two.get(b"deleted") is None
            with pytest.raises(KeyDeleted):
                await two.put(b"2", b"gone")
            with pytest.raises(KeyDeleted):
                await two.put(b"2", b"deleted")
            assert await kept.opaque.count("wiki") == 2
            assert await kept.opaque.uses_pepper(1) == await kept.opaque.uses_pepper(2) == "wiki"
            await clock.advance(TTL_S + 1)
            await two.sweeper.tick()
            assert await kept.opaque.uses_pepper(1) is None

    clock.run(main(), patience_s=0.005)


class KeyringFile:
    """The keyring's file, in memory."""

    def __init__(self, ring):
        self.ring = Keyring(ring.everything())

    async def read(self):
        return self.ring

    async def change(self, make):
        self.ring = make(self.ring)
        return self.ring

    def add(self, purpose):
        self.ring, key = rotation.added(self.ring, purpose, 5)
        return key.key_id


@pytest.mark.parametrize("store", STORES)
def test_keys_of_the_keyring_are_retired_when_no_row_needs_them(store):
    async def test(o):
        file = KeyringFile(o.s.tools.keyring)
        keys = Rekeying(o.s.tools, file, Notes(o.store))
        await o.put(b"1", b"a")
        await o.delete(b"b")
        for purpose in ("seal", "pepper"):
            await keys.promote(file.add(purpose), "op")
        assert (await keys.retire("seal-1", "op")).done and await o.get(b"a") == b"1"
        await o.s.clock.advance(SETTLED_S)
        with pytest.raises(KeyNeeded, match="wiki"):
            await keys.retire("pepper-1", "op")
        await o.s.clock.advance(TTL_S)
        await o.sweeper.tick()
        assert (await keys.retire("pepper-1", "op")).done
        await o.put(b"2", b"a")
        assert await o.get(b"a") == b"2"

    over_opaque(store, test)


def spellings(secret):
    url, plain = base64.urlsafe_b64encode(secret).rstrip(b"="), base64.b64encode(secret).rstrip(b"=")
    return [secret, secret.hex().encode(), secret.hex().upper().encode(), url, plain, secret[::-1]]


def test_SES_03_SES_22_keys_and_values_are_in_no_file_log_metric_or_error(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    registry = CollectorRegistry()
    key, value = b"canary-key-5d1e", b"canary-value-77a0" * 8
    errors = []

    async def main():
        store = EmbeddedStore.open(tmp_path / "data", QUICK)
        o = await opaque(store)
        object.__setattr__(o.s.tools, "events", ToldEvents(registry))
        for i in range(5):
            await o.put(value, key + b"%d" % i)
        await o.delete(key + b"1")
        for call in (o.put(value, key + b"1"), o.values.get(o.realm, key), o.put(value * 10_000, key)):
            with pytest.raises((KeyDeleted, ValueNotFound, DataTooLarge)) as caught:
                await call
            errors.append(f"{caught.value!r} {caught.value.metadata}")
        errors.append(repr((await store.opaque.read("wiki", crypto.names(o.s.tools.keyring, "wiki", key + b"2"))).row))
        running = files(tmp_path)
        for family in ("opaque", "opaque_deleted"):
            await store._sessions.compact(family)
        compacted = files(tmp_path)
        await store.close()
        return running, compacted, files(tmp_path)

    dumps = asyncio.run(main())
    assert all(len(dump) > 1000 for dump in dumps)
    for place, text in enumerate([*dumps, caplog.text.encode(), generate_latest(registry), "".join(errors).encode()]):
        for canary in [*spellings(key), *spellings(value[:17])]:
            assert canary not in text, f"a canary is in place {place}"


@pytest.mark.parametrize("store", STORES)
def test_SES_15_moved_rows_other_ends_and_another_keyring_open_nothing(store):
    async def test(o):
        await o.put(b"1", b"a")
        await o.put(b"2", b"b")
        ring, rows = o.s.tools.keyring, o.store.opaque
        (a, *_), (b, *_) = (crypto.names(ring, "wiki", key) for key in (b"a", b"b"))
        row = (await rows.read("wiki", [a])).row
        for stolen in (
            replace((await rows.read("wiki", [b])).row, name=a),
            replace(row, until_us=row.until_us + HOUR),
            replace(row, written_us=row.written_us + 1),
        ):
            assert await rows.write("wiki", [a], stolen, lambda _: True)
            with pytest.raises(SealBroken):
                await o.get(b"a")
        assert await o.get(b"b") == b"2"
        stranger = await opaque(o.store, clock=o.s.clock, ring=keyrings.generate(1))
        assert await stranger.get(b"b") is None

    over_opaque(store, test)


def test_acknowledged_values_and_deletions_outlive_the_process(tmp_path):
    clock, ring = VirtualClock(), keyrings.generate(1)

    async def main():
        store = EmbeddedStore.open(tmp_path / "data", QUICK)
        o = await opaque(store, clock=clock, ring=ring)
        await o.put(b"1", b"a")
        await o.put(b"1", b"b")
        await o.delete(b"b")
        await store.close()
        store = EmbeddedStore.open(tmp_path / "data", QUICK)
        again = await opaque(store, clock=clock, ring=ring, seed=2)
        assert await again.get(b"a") == b"1" and await again.get(b"b") is None
        with pytest.raises(KeyDeleted):
            await again.put(b"late", b"b")
        await store.close()

    clock.run(main(), patience_s=0.005)


def test_a_realms_key_is_made_once_also_when_many_begin():
    async def main():
        store = MemoryStore()
        ring = keyrings.generate(1)
        servers = [await opaque(store, ring=ring, seed=i) for i in range(8)]
        for i, o in enumerate(servers):
            o.s.tools.realms._realms = servers[0].s.tools.realms._realms
            await o.put(b"%d" % i, b"k%d" % i)
        for i in range(8):
            assert [await o.get(b"k%d" % i) for o in servers] == [b"%d" % i] * 8

    asyncio.run(main())
