"""Keys of the keyring change under load: nothing sealed is lost, nobody is logged out, what is needed stays."""

import asyncio
import random
from dataclasses import replace

import pytest

from services.session.conformance.harness import STORES, over
from services.session.conformance.keyholders import FileInMemory
from services.session.conformance.verbs import data, refused, rotate, update, valid
from services.session.crypto import keyring as keyrings
from services.session.crypto import rotation
from services.session.crypto.keyring import ACTIVE, NEXT, RETIRING, Keyring, KeyringUnusable, KeyUnknown
from services.session.crypto.rotation import KeyNotFound, KeyStateWrong
from services.session.domain import rekeying
from services.session.domain.errors import KeyNeeded
from services.session.domain.operations import Operation
from services.session.domain.rekeying import SETTLED_S, Rekeying
from services.session.domain.revoking import erase_subject, revoke_realm
from services.session.domain.validating import shared_values
from services.session.keyring_file import Notes

each = pytest.mark.parametrize("store", STORES)


async def at_work(s):
    file, notes = FileInMemory(s.tools.keyring), Notes(s.tools.store)
    await notes.remember(s.tools.keyring)
    return Rekeying(s.tools, file, notes), file


async def retire(keys, key_id):
    """To the end; what was left after each call."""
    left = []
    while not (answer := await keys.retire(key_id, "op")).done:
        left.append(answer.remaining)
    return left


@each
def test_ses_15_the_sealing_key_changes_by_rewrapping_subjects_keys_alone(store, monkeypatch):
    monkeypatch.setattr(rekeying, "ROWS_A_CALL", 4)
    monkeypatch.setattr(rekeying, "ROWS_A_STEP", 2)

    async def test(s):
        made = [await s.create(f"u{n}", data={"n": b"%d" % n}, shared={"m": b"%d" % n}) for n in range(11)]
        keys, file = await at_work(s)
        before = {m.session.handle: await s.tools.store.read("web", m.session.handle, kinds=b"ds") for m in made}
        assert (await keys.promote(file.add("seal"), "op")).key_id == "seal-2"
        assert [k.state for k in await keys.keys() if k.purpose == "seal"] == [RETIRING, ACTIVE]
        late = await s.create("late", data={"n": b"x"})
        left = await retire(keys, "seal-1")
        assert left == sorted(left, reverse=True) and len(left) >= 2, "in bounded pieces, and telling what is left"
        assert await s.tools.store.sealed_by(1) == 0 and await s.tools.store.sealed_by(2) == 12
        assert "seal-1" not in {k.key_id for k in file.ring.everything()} | {k.key_id for k in await keys.keys()}
        assert list(await keys.retired()) == ["seal-1"]
        for n, m in enumerate(made):
            assert await s.tools.store.read("web", m.session.handle, kinds=b"ds") == before[m.session.handle]
            assert await data(s, m.token) == {"n": b"%d" % n}
            _, shared = await shared_values(s.tools, s.realm(), "app", m.session.handle, ["m"])
            assert shared["m"].value == b"%d" % n
        assert await data(s, late.token) == {"n": b"x"}
        assert (await keys.retire("seal-1", "op")).done, "asked again it is as done as it was"
        told = [name for name, _ in s.events.told if name.startswith("key_")]
        assert told == ["key_promoted", "key_retired"]

    over(store, test)


@each
def test_ses_15_keys_change_under_load_and_erased_subjects_stay_erased(store, monkeypatch):
    monkeypatch.setattr(rekeying, "ROWS_A_CALL", 6)
    monkeypatch.setattr(rekeying, "ROWS_A_STEP", 3)
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed={seed}")

    async def test(s):
        rng, live, erased = random.Random(seed), {}, set()
        keys, file = await at_work(s)
        for n in range(20):
            live[f"u{n}"] = (await s.create(f"u{n}", data={"n": b"0"})).token

        async def bearer(n):
            for turn in range(12):
                who = f"u{(n * 7 + turn * 3) % 40}"
                await asyncio.sleep(rng.random())
                if who in erased:
                    continue
                if who not in live:
                    live[who] = (await s.create(who, data={"n": b"0"})).token
                elif rng.random() < 0.2:
                    erased.add(who)
                    await erase_subject(s.tools, s.realm(), "app", who)
                    del live[who]
                else:
                    await update(s, live[who], Operation("n", add=1))

        async def operator():
            for round_ in range(2, 7):
                await keys.promote(file.add("seal"), "op")
                await asyncio.sleep(rng.random())
                await retire(keys, f"seal-{round_ - 1}")

        async with asyncio.TaskGroup() as group:
            for n in range(5):
                group.create_task(bearer(n))
            group.create_task(operator())
        for number in range(1, 6):
            assert await s.tools.store.sealed_by(number) == 0
        for token in live.values():
            assert (await data(s, token))["n"].isdigit()

    over(store, test)


@each
def test_a_login_that_sealed_with_the_old_key_and_writes_late_seals_again(store):
    async def test(s):
        keys, file = await at_work(s)
        await keys.promote(file.add("seal"), "op")
        ring, vault = s.tools.keyring, s.tools.vault
        new, old = ring.active("seal"), rotation.named(ring, "seal-1")
        asked = []
        made_for = vault.new_session_key

        async def late(realm, subject):
            asked.append(1)
            if len(asked) > 1:
                return await made_for(realm, subject)
            # As a call would that began before the promotion and writes after the walk.
            ring.take(Keyring([replace(k, state=ACTIVE) if k == old else k for k in ring.everything() if k != new]))
            try:
                return await made_for(realm, subject)
            finally:
                ring.take(file.ring)
                await retire(keys, "seal-1")

        vault.new_session_key = late
        made = await s.create("late", data={"n": b"1"})
        assert len(asked) == 2 and await data(s, made.token) == {"n": b"1"}

    over(store, test)


@each
def test_a_pepper_is_kept_while_a_session_needs_it(store):
    async def test(s):
        keys, file = await at_work(s)
        made = await s.create()
        await keys.promote(file.add("pepper"), "op")
        with pytest.raises(KeyNeeded, match="may need it"):
            await keys.retire("pepper-1", "op")
        await s.clock.sleep(SETTLED_S)
        with pytest.raises(KeyNeeded, match="a session of the realm web"):
            await keys.retire("pepper-1", "op")
        await valid(s, made.token)
        child = await rotate(s, made.token, privilege=True)
        await s.clock.sleep(SETTLED_S)
        with pytest.raises(KeyNeeded):  # the parent of before is remembered, to notice a theft
            await keys.retire("pepper-1", "op")
        await revoke_realm(s.tools, s.realm(), "op")
        new = await s.create()
        assert await retire(keys, "pepper-1") == []
        await valid(s, new.token)
        await refused(s, child.token)

    over(store, test)


@each
def test_a_tag_key_is_kept_while_a_session_of_its_time_lives(store):
    async def test(s):
        keys, file = await at_work(s)
        old = await s.create("old")
        await keys.promote(file.add("tag"), "op")
        await s.clock.sleep(SETTLED_S + 1)
        new = await s.create("new")
        with pytest.raises(KeyNeeded):
            await keys.retire("tag-1", "op")
        await valid(s, old.token)
        await erase_subject(s.tools, s.realm(), "op", "old")
        await retire(keys, "tag-1")
        await valid(s, new.token)

    over(store, test)


@each
def test_a_signing_key_outlives_what_it_signed(store):
    async def test(s):
        keys, file = await at_work(s)
        await keys.promote(file.add("sign"), "op")
        with pytest.raises(KeyNeeded) as error:
            await keys.retire("sign-1", "op")
        assert error.value.metadata == {"key_id": "sign-1", "realm": "", "seconds": str(SETTLED_S)}
        await s.clock.sleep(SETTLED_S)
        assert (await keys.retire("sign-1", "op")).done

    over(store, test)


@each
def test_what_may_not_be_asked_of_a_key(store):
    async def test(s):
        keys, file = await at_work(s)
        for key_id, error in {"seal-9": KeyNotFound, "pseudonym-1": KeyStateWrong, "pairwise-1": KeyStateWrong}.items():
            with pytest.raises(error):
                await keys.promote(key_id, "op")
            with pytest.raises(error):
                await keys.retire(key_id, "op")
        with pytest.raises(KeyStateWrong, match="is the active key"):
            await keys.retire("seal-1", "op")
        file.add("seal")
        with pytest.raises(KeyStateWrong, match="next key already"):
            file.add("seal")
        with pytest.raises(KeyNotFound):
            await keys.retire("seal-2", "op")  # it is in the file only
        await keys.promote("seal-2", "op")
        with pytest.raises(KeyStateWrong, match="is retiring"):
            await keys.promote("seal-1", "op")
        assert (await keys.promote("seal-2", "op")).state == ACTIVE
        file.ring = keyrings.generate(1)
        with pytest.raises(KeyringUnusable, match="lacks"):
            await keys.promote("seal-1", "op")

    over(store, test)


@each
def test_a_promotion_that_stopped_half_way_is_finished_by_asking_again(store):
    async def test(s):
        keys, file = await at_work(s)
        key_id = file.add("tag")
        file.broken = True
        with pytest.raises(KeyringUnusable):
            await keys.promote(key_id, "op")
        assert s.tools.keyring.active("tag").key_id == "tag-1"
        file.broken = False
        # The file was written, the process went on with the old key: it is superseded when it is, not before.
        file.ring = rotation.promoted(file.ring, key_id, 1)
        await s.clock.sleep(5000)
        await keys.promote(key_id, "op")
        old = rotation.named(s.tools.keyring, "tag-1")
        assert old.superseded_s == s.tools.clock.now_us() // 10**6 and old.state == RETIRING

    over(store, test)


@each
def test_a_key_that_was_lost_is_told_and_never_guessed_around(store):
    async def test(s):
        made = await s.create(data={"n": b"1"})
        ring = s.tools.keyring
        others = [key for key in ring.everything() if key.purpose != "seal"]
        fresh = next(key for key in keyrings.generate(1).everything() if key.purpose == "seal")
        ring.take(Keyring([*others, replace(fresh, number=2)]))
        s.tools.vault.forget_all()
        with pytest.raises(KeyUnknown, match="seal-1"):
            await data(s, made.token)
        assert NEXT not in {key.state for key in ring.everything()}

    over(store, test)
