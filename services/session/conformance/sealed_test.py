"""A stolen store is useless: no secret, subject, name or value in any file, log, metric or error; what is over goes."""

import asyncio
import logging
import re
import shutil
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from libs.clock.virtual import VirtualClock
from services.session.conformance.harness import QUICK, files, service
from services.session.conformance.planting import SUBJECT, planted
from services.session.crypto import keyring as keyrings
from services.session.crypto import tokens
from services.session.crypto.sealing import SealBroken
from services.session.domain import revoking, sweeping, validating
from services.session.domain.errors import SessionInvalid
from services.session.domain.policy import DAY
from services.session.domain.sweeping import Sweeper
from services.session.events import ToldEvents
from services.session.store.embedded import EmbeddedStore


def test_ses_03_ses_22_canaries_are_in_no_file_log_metric_or_error(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    registry = CollectorRegistry()
    told: list[bytes] = []
    errors: list[str] = []

    async def main():
        store = EmbeddedStore.open(tmp_path / "data", QUICK)
        s = await service(store)
        object.__setattr__(s.tools, "events", ToldEvents(registry))
        told.extend(await planted(s, errors))
        await revoking.erase_subject(s.tools, s.realm(), "app", SUBJECT)
        running = files(tmp_path)
        for family in ("sessions", "items", "subjects", "requests"):
            await store._sessions.compact(family)
        compacted = files(tmp_path)
        await store.close()
        return running, compacted, files(tmp_path)

    dumps = asyncio.run(main())
    everywhere = [*dumps, caplog.text.encode(), generate_latest(registry), "".join(errors).encode()]
    assert all(len(dump) > 1000 for dump in dumps) and len(told) > 100
    for place, text in enumerate(everywhere):
        for canary in told:
            assert canary not in text, f"a canary is in place {place}"


def test_ses_03_nothing_that_is_stored_is_a_token(tmp_path):
    async def main():
        store = EmbeddedStore.open(tmp_path / "data", QUICK)
        s = await service(store)
        made = await s.create(data={"k": b"v"})
        row = (await store.read("web", made.session.handle)).session
        real = tokens.parse(made.token)
        stored = [row.tokens[0].verifier, row.tokens[0].wrapped[:32], row.subject, made.session.handle.encode()[:32]]
        for secret in stored:
            # Whoever has the keyring's tag key as well could make this; the store's bytes open nothing all the same.
            forged = tokens._make(s.tools.keyring, "web", real.home, real.id, secret)[1]
            with pytest.raises(SessionInvalid):
                await validating.validate(s.tools, s.realm(), "app", forged)
        for text in re.findall(rb"wss_[ -~]{10,}", files(tmp_path)):
            raise AssertionError(f"a token's prefix is stored: {len(text)} bytes")
        await store.close()

    asyncio.run(main())


def test_ses_15_swapped_rows_and_another_keyring_open_nothing(tmp_path):
    async def main():
        store = EmbeddedStore.open(tmp_path / "data", QUICK)
        s = await service(store)
        one, two = await s.create("a", data={"k": b"1"}), await s.create("a", data={"k": b"2"})
        rows = [(await store.read("web", m.session.handle, kinds=b"d")) for m in (one, two)]
        (first,), (second,) = rows[0].items.values(), rows[1].items.values()
        moved = second._replace(key=first.key)
        session = rows[0].session
        assert await store.replace(session, replace(session, revision=2), put=[moved])
        with pytest.raises(SealBroken):
            await validating.validate(s.tools, s.realm(), "app", one.token, data_keys=["k"])
        old = first._replace(version=first.version + 1)
        session = (await store.read("web", one.session.handle)).session
        assert await store.replace(session, replace(session, revision=3), put=[old])
        with pytest.raises(SealBroken):
            await validating.validate(s.tools, s.realm(), "app", one.token, data_keys=["k"])
        stranger = await service(store, ring=keyrings.generate(1))
        with pytest.raises(SessionInvalid):
            await validating.validate(stranger.tools, stranger.realm(), "app", two.token, data_keys=["k"])
        await store.close()

    asyncio.run(main())


def test_ses_16_a_backup_reads_nothing_of_an_erased_subject(tmp_path):
    async def main():
        store = EmbeddedStore.open(tmp_path / "data", QUICK)
        s = await service(store)
        made = await s.create("a", data={"k": b"v"})
        # What a backup may hold: sessions/, not keys/.
        await store._sessions.checkpoint(tmp_path / "backup" / "sessions")
        await revoking.erase_subject(s.tools, s.realm(), "app", "a")
        await store.close()
        shutil.copytree(tmp_path / "data" / "keys", tmp_path / "backup" / "keys")
        restored = EmbeddedStore.open(tmp_path / "backup", QUICK)
        again = await service(restored, ring=s.tools.keyring)
        with pytest.raises(SessionInvalid):
            await validating.validate(again.tools, again.realm(), "app", made.token, data_keys=["k"])
        await restored.close()

    asyncio.run(main())


def test_ses_17_what_is_over_leaves_the_disk(tmp_path):
    clock = VirtualClock()

    async def main():
        store = EmbeddedStore.open(tmp_path / "data", QUICK)
        s = await service(store, clock=clock)
        sweeper = Sweeper(s.tools, 60_000_000, DAY)
        gone = [await s.create(f"u{i}", level=3, data={"k": b"v" * 100}) for i in range(20)]
        stays = await s.create("stays", level=1)
        revoked = await s.create("revoked", level=1)
        await revoking.revoke_realm(s.tools, s.realm("app"), "app")
        await revoking.revoke_token(s.tools, s.realm(), "app", revoked.token)
        rows = [(await store.read("web", m.session.handle)).session for m in gone]
        kept = (await store.read("web", stays.session.handle)).session
        sealed = [t for row in rows for t in (row.tokens[0].verifier, row.tokens[0].wrapped)]
        names = [t for row in rows for t in (row.handle.encode(), row.subject)]
        await clock.advance(12 * 3600)
        for _ in range(24 * 60):
            await sweeper.tick()
            await clock.advance(60)
        left = files(tmp_path)
        assert not [t for t in sealed if t in left]
        assert kept.tokens[0].verifier in left
        await validating.validate(s.tools, s.realm(), "app", stays.token)
        assert (await store.usage("web")).sessions == 1
        await store.close()
        # RocksDB's list of files names the first and last keys of tables that are gone, until it is written anew.
        await EmbeddedStore.open(tmp_path / "data", QUICK).close()
        left = files(tmp_path)
        assert not [t for t in names if t in left] and kept.handle.encode() in left

    clock.run(main(), patience_s=0.01)


def test_a_tick_of_the_sweeper_is_bounded(tmp_path, monkeypatch):
    clock = VirtualClock()
    monkeypatch.setattr(sweeping, "ROWS_A_TICK", 200)

    async def main():
        store = EmbeddedStore.open(tmp_path / "data", QUICK)
        s = await service(store, clock=clock)
        for i in range(700):
            await s.create(f"u{i % 9}", level=3)
        sweeper = Sweeper(s.tools, 60_000_000, DAY)
        await clock.advance(13 * 3600)
        removed = [await sweeper.tick() for _ in range(8)]
        assert max(removed) <= 200 and sum(removed) == 700
        await store.close()

    clock.run(main(), patience_s=0.01)
