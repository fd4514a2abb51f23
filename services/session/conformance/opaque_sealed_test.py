"""Opaque realms: values need their key to open, keys of the keyring change, nothing is readable in any file."""

import asyncio
import base64
import logging
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from libs.clock.virtual import VirtualClock
from services.session.conformance.harness import QUICK, STORES, files, opened
from services.session.conformance.opaque_rig import TTL_S, opaque, over_opaque
from services.session.crypto import keyring as keyrings
from services.session.crypto import opaque as crypto
from services.session.crypto import rotation
from services.session.crypto.keyring import ACTIVE, RETIRING, Key, Keyring
from services.session.crypto.sealing import SealBroken
from services.session.domain.errors import DataTooLarge, KeyDeleted, KeyNeeded, ValueNotFound
from services.session.domain.policy import HOUR, SECOND
from services.session.domain.rekeying import SETTLED_S, Rekeying
from services.session.domain.sweeping import Sweeper
from services.session.events import ToldEvents
from services.session.keyring_file import Notes
from services.session.store.embedded import EmbeddedStore
from services.session.store.memory import MemoryStore


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


def test_SES_17_what_is_over_leaves_the_disk(tmp_path):
    clock = VirtualClock()

    async def main():
        store = EmbeddedStore.open(tmp_path / "data", QUICK)
        o = await opaque(store, clock=clock)
        sealed, names = [], []

        async def put(key):
            await o.put(b"v" * 100, key)
            name = crypto.names(o.s.tools.keyring, "wiki", key)[0]
            sealed.append((await store.opaque.read("wiki", [name])).row.sealed)
            names.append(name)

        for i in range(20):
            await put(b"expires%d" % i)
        await put(b"overwritten")
        await put(b"deleted")
        await o.delete(b"deleted")
        await clock.advance(TTL_S / 2)
        await put(b"stays")
        await put(b"overwritten")
        sweeper = Sweeper(o.s.tools, 60 * SECOND, HOUR)
        for _ in range(40):
            await clock.advance(60)
            await o.sweeper.tick()
            await sweeper.tick()
        left = files(tmp_path)
        assert [sealed.index(text) for text in sealed if text in left] == [22, 23]
        assert await o.get(b"stays") == await o.get(b"overwritten") == b"v" * 100
        await clock.advance(TTL_S)
        for _ in range(40):
            await clock.advance(60)
            await o.sweeper.tick()
            await sweeper.tick()
        left = files(tmp_path)
        assert not [text for text in sealed if text in left]
        await store.close()
        # RocksDB's list of files names the first and last keys of tables that are gone, until it is written anew.
        await EmbeddedStore.open(tmp_path / "data", QUICK).close()
        left = files(tmp_path)
        assert not [name for name in names if name in left]

    clock.run(main(), patience_s=0.01)


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
