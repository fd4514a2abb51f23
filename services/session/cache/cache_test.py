"""Sessions read through a real Redis: nobody is let in by it who is not let in by the store, whatever becomes of it."""

import asyncio
import contextlib
import os
import random

import pytest
import redis as plain

from libs.redis.options import Options
from services.session.cache.rig import HASTY_S, cached
from services.session.conformance.verbs import rotate, step_up, valid
from services.session.crypto import keyring as keyrings
from services.session.domain.errors import SessionInvalid
from services.session.domain.policy import MINUTE, SECOND, Limit
from services.session.domain.revoking import erase_subject, revoke_handle, revoke_realm, revoke_subject, revoke_token
from services.session.store.memory import MemoryStore
from tools.dev.servers.redis import Redis

SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
LONG = {"revocation_bound_us": 5 * MINUTE}
"""Pages are believed for longer than a test takes: only what drops them ends them."""


@pytest.fixture(scope="module")
def redis():
    with Redis() as server:
        yield server


@contextlib.asynccontextmanager
async def two(redis, **more):
    """Two servers of one store."""
    store, ring = MemoryStore(), keyrings.generate(1)
    async with (
        cached(redis, store, ring, **LONG | more) as one,
        cached(redis, store, ring, seed=2, **LONG | more) as two,
    ):
        yield one, two


async def hot(s, token):
    """Whether a token is good, by the hot path."""
    try:
        await valid(s, token, hot=True)
    except SessionInvalid:
        return False
    return True


def test_a_session_is_read_once_from_the_store_and_then_by_every_server_from_the_cache(redis):
    async def story():
        async with two(redis) as (one, other):
            made = await one.create()
            reads = counting(one, other)
            for s in (one, other, one, other):
                assert await hot(s, made.token)
            assert len(reads) == 1 and (one.counted("hit"), other.counted("hit")) == (1, 2)
            answer = await valid(other, made.token, hot=True)
            assert answer.session == (await valid(other, made.token)).session
            mark = await other.tools.hot.mark(other.realm(), made.session.handle, made.session.subject)
            assert mark == await other.tools.store.mark("web", made.session.handle, made.session.subject)

    asyncio.run(story())


def counting(*servers):
    """The handles of sessions that the hot path reads from the store from now on."""
    found = []
    for s in servers:
        store, read = s.tools.store, s.tools.store.read

        async def counted(realm, handle, *more, read=read, **and_more):
            found.append(handle)
            return await read(realm, handle, *more, **and_more)

        store.read = counted
    return found


ENDS = {
    "token": lambda s, made: revoke_token(s.tools, s.realm(), "op", made.token),
    "handle": lambda s, made: revoke_handle(s.tools, s.realm(), "op", made.session.handle),
    "subject": lambda s, made: revoke_subject(s.tools, s.realm(), "op", "alice"),
    "erased": lambda s, made: erase_subject(s.tools, s.realm(), "op", "alice"),
    "privilege": lambda s, made: rotate(s, made.token, privilege=True),
    "step up": lambda s, made: step_up(s, made.token),
    "evicted": lambda s, made: s.create(),
}


@pytest.mark.parametrize("how", ENDS)
def test_ses_10_a_refill_that_began_before_a_revocation_brings_nothing_back(redis, how):
    """The reader has read the session, and stands still at each of the steps between that and its page in Redis while
    the session is ended."""

    async def story():
        limit = {"max_sessions_per_subject": 1, "limit": Limit.EVICT_OLDEST} if how == "evicted" else {}
        for step in ("read", "subject_epoch", "put"):
            async with two(redis, **limit) as (one, other):
                made = await one.create()
                reached, go = asyncio.Event(), asyncio.Event()
                held(other, step, reached, go)
                reading = asyncio.create_task(hot(other, made.token))
                await reached.wait()
                await ENDS[how](one, made)
                go.set()
                await reading  # it began before: either answer is right
                for s in (other, one, other):
                    assert not await hot(s, made.token), (how, step)

    asyncio.run(story())


def held(s, step, reached, go):
    """Holds a server's next exchange of a kind when it has its answer, or before it is sent."""
    where = s.cache._entries if step == "put" else s.tools.store
    real = getattr(where, step)

    async def slow(*given, **more):
        setattr(where, step, real)
        if step == "put":
            reached.set()
            await go.wait()
            return await real(*given, **more)
        answer = await real(*given, **more)
        reached.set()
        await go.wait()
        return answer

    setattr(where, step, slow)


@pytest.mark.parametrize("how", ENDS)
def test_what_one_server_was_answered_the_others_read_at_once(redis, how):
    async def story():
        limit = {"max_sessions_per_subject": 1, "limit": Limit.EVICT_OLDEST} if how == "evicted" else {}
        async with two(redis, **limit) as (one, other):
            made = await one.create()
            assert await hot(other, made.token) and await hot(one, made.token) and one.counted("hit")
            await ENDS[how](one, made)
            assert not await hot(other, made.token) and not await hot(one, made.token)
            assert one.tools.hot.late_us(one.realm()) == 0

    asyncio.run(story())


def test_a_login_that_was_repeated_ends_the_first_one_for_those_who_had_it_cached(redis):
    async def story():
        async with two(redis) as (one, other):
            request = one.uuid()
            first = await one.create(request_id=request)
            assert await hot(other, first.token) and await hot(other, first.token)
            second = await one.create(request_id=request)
            assert not await hot(other, first.token) and await hot(other, second.token)

    asyncio.run(story())


def test_any_order_of_calls_by_two_servers_is_answered_as_the_store_says(redis):
    """With Redis emptied, killed and back in between: whoever has an answer of a write reads it everywhere."""

    async def story():
        rng = random.Random(SEED)
        print(f"WELLSPRING_SEED={SEED}")
        async with two(redis) as servers:
            made = [await servers[0].create(f"u{n % 3}") for n in range(6)]
            for _ in range(150):
                s, at = rng.choice(servers), rng.randrange(len(made))
                how = rng.choice(["look"] * 6 + ["rotate", "renew", "revoke", "subject", "again", "flush", "restart"])
                with contextlib.suppress(SessionInvalid):
                    made[at] = await stepped(redis, s, how, made[at], f"u{at % 3}") or made[at]
                for one in servers:
                    assert await hot(one, made[at].token) == await good(one, made[at].token), (SEED, how)
            assert sum(one.counted("hit") for one in servers)

    asyncio.run(story())


async def good(s, token):
    try:
        await valid(s, token)
    except SessionInvalid:
        return False
    return True


async def stepped(redis, s, how, made, subject):
    if how == "rotate":
        return await rotate(s, made.token)
    if how == "renew":
        return await rotate(s, made.token, privilege=True)
    if how == "revoke":
        await revoke_handle(s.tools, s.realm(), "op", made.session.handle)
    if how == "subject":
        await revoke_subject(s.tools, s.realm(), "op", subject)
    if how == "again":
        return await s.create(subject)
    if how == "flush":
        with plain.Redis.from_url(redis.url) as other:
            other.flushall()
    if how == "restart":
        redis.kill()
        redis.start()
    return None


def test_a_redis_that_hangs_or_is_away_refuses_nobody_and_a_server_that_could_not_tell_believes_nothing():
    async def story():
        with Redis() as redis:
            async with two(redis, timeout_s=HASTY_S) as (one, other):
                made, kept = await one.create(), await one.create("bob")
                while not other.counted("hit"):  # on a busy machine an exchange may be too slow
                    assert await hot(other, made.token)
                for stop in (redis.pause, redis.kill):
                    stop()
                    assert await hot(one, kept.token) and await hot(other, kept.token)
                    fresh = await one.create("carol")
                    assert await hot(one, fresh.token) and await hot(other, fresh.token)
                    if stop == redis.pause:
                        await revoke_handle(one.tools, one.realm(), "op", made.session.handle)
                        assert 0 < one.tools.hot.late_us(one.realm()) <= LONG["revocation_bound_us"] // 2
                        redis.resume()
                    assert not await hot(one, made.token), "it does not believe what it could not drop"
                    assert await hot(one, kept.token)
                assert one.counted("untold") and one.counted("failure")

    asyncio.run(story())


def test_a_server_that_was_not_told_lets_nobody_in_for_longer_than_half_the_bound():
    async def story():
        with Redis() as redis:
            store, ring = MemoryStore(), keyrings.generate(1)
            short = {"revocation_bound_us": 4 * SECOND}
            async with (
                cached(redis, store, ring, **short) as other,
                cached(redis, store, ring, seed=2, **short) as one,
            ):
                made = await other.create()
                assert await hot(other, made.token)
                with plain.Redis.from_url(redis.url) as admin:
                    await cut_off(one)
                    await revoke_handle(one.tools, one.realm(), "op", made.session.handle)
                    assert one.tools.hot.late_us(one.realm()) > 0 and not await hot(one, made.token)
                    while await hot(other, made.token):  # noqa: ASYNC110 - nobody tells it
                        await asyncio.sleep(0.01)
                    page = await anything_kept(admin)
                    assert page is None or not await hot(other, made.token)

    asyncio.run(story())


async def cut_off(s):
    """This server alone reaches Redis no more."""
    client = s.cache._entries._redis
    client._options = Options(("127.0.0.1", 1))
    await client._drop()


async def anything_kept(admin):
    return next((admin.hget(name, "p") for name in admin.keys("ws:s:*") if admin.hget(name, "p")), None)


def test_a_page_that_is_put_again_after_its_time_is_not_believed(redis):
    """By somebody who may write to Redis and kept what was there: no key tells him how to make it young."""

    async def story():
        with plain.Redis.from_url(redis.url) as admin:
            admin.flushall()
            store, ring = MemoryStore(), keyrings.generate(1)
            async with cached(redis, store, ring, revocation_bound_us=SECOND) as s:
                made = await s.create()
                while (page := await anything_kept(admin)) is None:
                    assert await hot(s, made.token)
                (name,), (subject,) = admin.keys("ws:s:*"), admin.keys("ws:u:*")
                await revoke_handle(s.tools, s.realm(), "op", made.session.handle)
                assert not await hot(s, made.token)

                def put_again():
                    admin.hset(name, mapping={"l": b"a", "p": page, "u": subject, "s": b"b"})
                    admin.set(subject, b"b")

                put_again()
                while await hot(s, made.token):
                    put_again()
                for _ in range(5):
                    put_again()
                    assert not await hot(s, made.token) and s.counted("stale")

    asyncio.run(story())


def test_what_is_stolen_from_redis_gives_nothing_and_what_is_put_there_neither(redis):
    async def story():
        with plain.Redis.from_url(redis.url) as admin:
            admin.flushall()
            async with two(redis) as (s, other):
                made = await s.create("alice@example.org", data={"name": b"Ann of Alice"})
                mine = await s.create("mallory")
                assert await hot(s, made.token) and await hot(s, mine.token)
                names = admin.keys("*")
                memory = b"\0".join(bytes(admin.dump(name)) + name for name in names)
                stored = (await s.tools.store.read("web", made.session.handle)).session
                secret = [made.token, made.token[-20:], made.session.handle.encode(), stored.subject, b"alice", b"Ann"]
                secret += [b"web", *(record.verifier for record in stored.tokens)]
                assert not [one for one in secret if one in memory]
                assert len(names) == 4
                # Another session's page, in the place of one's own, and a page of which any bit is another one.
                pages = {name: admin.hgetall(name) for name in admin.keys("ws:s:*")}
                (first, a), (second, b) = pages.items()
                for place, whole, page in ((first, a, b[b"p"]), (second, b, a[b"p"]), (first, a, flipped(a[b"p"]))):
                    admin.hset(place, mapping={**whole, b"p": page})
                    for made_one in (made, mine):
                        answer = await valid(other, made_one.token, hot=True)
                        assert answer.session.subject == made_one.session.subject
                assert other.counted("damaged")

    asyncio.run(story())


def flipped(page):
    print(f"WELLSPRING_SEED={SEED}")
    at = random.Random(SEED).randrange(len(page))
    return page[:at] + bytes((page[at] ^ 1,)) + page[at + 1 :]


def test_another_sealing_key_makes_pages_of_before_unreadable_and_nobody_is_refused(redis):
    async def story():
        store, ring = MemoryStore(), keyrings.generate(1)
        async with cached(redis, store, ring, **LONG) as s:
            made = await s.create()
            assert await hot(s, made.token) and await hot(s, made.token)
            hits = s.counted("hit")
            other = keyrings.generate(1)
            keys = [key for key in ring.everything() if key.purpose != "seal"]
            ring.take(keyrings.Keyring([*keys, other.active("seal")]))
            assert await hot(s, made.token) and s.counted("hit") == hits
            assert await hot(s, made.token) and s.counted("hit") == hits + 1

    asyncio.run(story())


def test_bound_sessions_and_data_are_not_read_from_the_cache(redis):
    async def story():
        async with two(redis) as (s, other):
            made = await s.create(data={"name": b"Ann"})
            reads = counting(s, other)
            assert await hot(s, made.token) and await hot(s, made.token)
            assert (await valid(s, made.token, data_keys=["name"], hot=True)).data["name"].value == b"Ann"
            assert len(reads) == 2

    asyncio.run(story())


def test_a_whole_realm_is_revoked_elsewhere_by_a_hint(redis):
    async def story():
        async with two(redis) as (one, other):
            made = await one.create()
            hints = other.cache.hints(other.tools.keyring, other.tools.realms, other.clock)
            listening = asyncio.create_task(hints.run())
            while not hints.listening:  # noqa: ASYNC110 - nobody tells it
                await asyncio.sleep(0.01)
            assert await hot(other, made.token)
            await revoke_realm(one.tools, one.realm(), "op")
            while await hot(other, made.token):  # noqa: ASYNC110 - nobody tells it
                await asyncio.sleep(0.01)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    asyncio.run(story())
