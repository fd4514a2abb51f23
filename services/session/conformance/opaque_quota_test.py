"""An opaque realm keeps as many values, and bytes, as it may, whatever comes at once; what is there stays."""

import asyncio
import os
import random

import pytest

from services.session.conformance.harness import STORES
from services.session.conformance.opaque_rig import KEY, TTL_S, opaque, over_opaque
from services.session.domain.errors import RealmFull
from services.session.domain.revoking import revoke_realm

each = pytest.mark.parametrize("store", STORES)
SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)


def key(number):
    return b"%s%03d" % (KEY, number)


async def full(o, number, value=b"v"):
    with pytest.raises(RealmFull, match="at most"):
        await o.put(value, key(number))
    assert await o.get(key(number)) is None, "and nothing of it is kept"


@each
def test_ses_30_one_value_too_many_is_refused_until_there_is_room(store):
    async def test(o):
        for number in range(3):
            await o.put(b"v", key(number))
        await full(o, 3)
        await o.put(b"anew", key(1))
        assert await o.get(key(1)) == b"anew", "what is there may be written anew"
        await o.delete(key(0))
        await o.put(b"v", key(4))
        await full(o, 5)

    over_opaque(store, test, max_values=3)


@each
def test_ses_30_bytes_count_as_they_are_kept(store):
    async def test(o):
        await o.put(b"v" * 500, key(0))
        _, overhead = o.s.tools.opaque_usage.kept("wiki")
        overhead -= 500
        room = 2_000 - 2 * overhead - 500
        await full(o, 1, b"v" * (room + 1))
        await o.put(b"v" * room, key(1))
        with pytest.raises(RealmFull):
            await o.put(b"v" * 501, key(0))
        assert await o.get(key(0)) == b"v" * 500, "a larger one in the place of it was refused"
        await o.put(b"v" * 100, key(0))
        await o.put(b"v" * (400 - overhead), key(2))

    over_opaque(store, test, max_total_bytes=2_000)


@each
def test_ses_30_of_many_at_once_as_many_are_kept_as_may_be(store):
    async def test(o):
        answers = await asyncio.gather(*(o.put(b"v", key(n)) for n in range(20)), return_exceptions=True)
        assert [type(one) for one in answers if one is not None] == [RealmFull] * 13
        kept = [n for n in range(20) if await o.get(key(n)) is not None]
        assert len(kept) == 7 == o.s.tools.opaque_usage.kept("wiki")[0]

    over_opaque(store, test, max_values=7)


@each
def test_ses_30_what_was_there_before_the_start_counts_and_what_is_over_leaves_room_when_it_is_swept(store):
    async def test(o):
        for number in range(2):
            await o.put(b"v", key(number))
        again = await opaque(o.store, clock=o.s.clock, ring=o.s.tools.keyring)
        await full(again, 2)
        await o.s.clock.sleep(TTL_S + 1)
        await full(again, 2)
        assert await again.sweeper.tick() == 2
        await again.put(b"v", key(2))
        await again.put(b"v", key(3))
        await full(again, 4)
        await revoke_realm(again.s.tools, again.realm, "op")
        await again.sweeper.tick()
        await again.put(b"v", key(5))
        assert again.s.tools.opaque_usage.kept("wiki")[0] == 1

    over_opaque(store, test, max_values=2)


@each
def test_what_is_counted_is_what_is_there_after_any_calls(store):
    """By a server alone; and, where others wrote, after a round of the sweeper."""

    async def test(o):
        rng = random.Random(SEED)
        print(f"WELLSPRING_SEED={SEED}")
        for _ in range(60):
            number = rng.randrange(12)
            call = o.put(b"v" * rng.randrange(1, 300), key(number)) if rng.random() < 0.8 else o.delete(key(number))
            await asyncio.gather(call, return_exceptions=True)
            if rng.random() < 0.1:
                await o.s.clock.sleep(rng.randrange(TTL_S))
                await o.sweeper.tick()
        there = [stored.row for _, stored in (await o.store.opaque.patrol(None, 100)).found]
        truth = len(there), sum(row.stored_bytes for row in there)
        assert o.s.tools.opaque_usage.kept("wiki") == truth
        other = await opaque(o.store, clock=o.s.clock, ring=o.s.tools.keyring)
        object.__setattr__(other.s.tools, "shared", True)
        await other.sweeper.tick()
        assert other.s.tools.opaque_usage.kept("wiki") == truth

    over_opaque(store, test, max_values=8, max_total_bytes=2_500)
