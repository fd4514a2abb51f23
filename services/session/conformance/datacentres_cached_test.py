"""Redis before the store of each data centre: what the other one revoked lets nobody in here by it, heard or not."""

import contextlib

import pytest
from prometheus_client import CollectorRegistry

from libs.redis.options import Options
from services.session.cache.hot import life_us
from services.session.cache.opening import Cache
from services.session.conformance.datacentres import cut, played, whole
from services.session.conformance.datacentres_cut_test import STATES, revoke
from services.session.conformance.verbs import refused, rotate, step_up, valid
from services.session.domain import cookies, revoking, validating
from services.session.domain.errors import SessionInvalid, Stale
from services.session.domain.policy import MINUTE, Partition
from tools.dev.servers.redis import Redis

LONG = {"revocation_bound_us": 5 * MINUTE}
"""Of the tests' clock. What Redis keeps by its own outlives the test, so that only what is judged here ends it."""
PATIENT_S = 60.0


@pytest.fixture(scope="module")
def redis():
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Redis()) for name in ("east", "west")}


def before(server):
    """What a server puts before its store, with what it does counted."""
    registry = CollectorRegistry()
    cache = Cache(Options(("127.0.0.1", server.port), timeout_s=PATIENT_S), registry)

    def front(*given):
        return cache.front(*given)

    def counted(what):
        return int(registry.get_sample_value("wellspring_session_cache_total", {"what": what}) or 0)

    front.cache, front.counted = cache, counted
    return front


def cached(redis, test, **policy):
    """A server in each data centre, and one more in the east beside the first, each with its Redis."""
    fronts = {name: before(server) for name, server in redis.items()}
    fronts["beside"] = before(redis["east"])

    async def story(east, west):
        beside = await east.again(fronts["beside"])
        try:
            for site in (east, west, beside):
                await site.tick()
            await beside.hears(west)
            await test(east, west, beside, fronts)
        finally:
            await beside.store.close()
            for front in fronts.values():
                await front.cache.close()

    played(story, fronts, **LONG | policy)


async def in_redis(site, front, made):
    """Uses a session until its page answers."""
    hits = front.counted("hit")
    for _ in range(2):
        await valid(site, made.token)
    assert front.counted("hit") > hits


def away(front):
    """This server reaches its Redis no more."""
    front.cache._entries._redis._options = Options(("127.0.0.1", 1))
    return front.cache._entries._redis._drop()


def test_ses_10_ses_11_what_the_other_data_centre_revoked_leaves_redis_when_it_is_heard(redis):
    async def test(east, west, beside, fronts):
        logout, gone, stays = [await east.create(subject) for subject in ("alice", "bob", "carol")]
        for one in (logout, gone, stays):
            await in_redis(east, fronts["east"], one)
            await valid(beside, one.token)
        receipts = await revoke(west, handle=logout.session.handle)
        assert receipts["east"].state == STATES.STATE_PENDING
        await revoke(west, subject="bob")
        await east.hears(west)
        misses, hits = fronts["beside"].counted("miss"), fronts["beside"].counted("hit")
        for one in (logout, gone):
            await refused(beside, one.token)
            await refused(east, one.token)
        assert fronts["beside"].counted("miss") > misses, "it was there, and went"
        await valid(beside, stays.token)
        assert fronts["beside"].counted("hit") > hits, "and nothing else"

    cached(redis, test)


def test_ses_11_a_page_that_nobody_could_drop_answers_for_no_longer_than_the_bound(redis):
    async def test(east, west, beside, fronts):
        made, stays = await east.create("alice"), await east.create("bob")
        for one in (made, stays):
            await in_redis(beside, fronts["beside"], one)
        await away(fronts["east"])
        receipts = await revoke(west, handle=made.session.handle)
        by_us = receipts["east"].enforced_by.ToMicroseconds()
        # The one that takes it in cannot drop it, and knows: it asks the store, and promises others nothing.
        await east.hears(west)
        await refused(east, made.token)
        assert (await revoke(east, subject="nobody"))["east"].state == STATES.STATE_PENDING
        # The other one has heard, and believes what Redis has while that is no older than is promised.
        await beside.hears(west)
        await valid(beside, made.token)
        await beside.clock.advance(life_us(beside.realm()) / 1e6)
        await beside.hears(west)
        assert beside.tools.clock.now_us() < by_us, "long before the receipt says"
        await refused(beside, made.token)
        await valid(beside, stays.token)
        assert fronts["beside"].counted("stale")

    cached(redis, test)


def test_ses_11_how_late_a_server_hears_and_how_old_a_page_is_are_one_sum(redis):
    async def test(east, west, beside, fronts):
        bound_s = east.realm().policy.revocation_bound_us / 1e6
        made = await east.create("alice")
        # Read when west was last heard three quarters of the bound ago.
        await east.clock.advance(0.75 * bound_s)
        await beside._refresher.tick()
        await in_redis(beside, fronts["beside"], made)
        await away(fronts["east"])
        await revoke(west, handle=made.session.handle)
        await east.hears(west)
        await beside.hears(west)
        assert beside.tools.hot.staleness_us(beside.realm()) <= bound_s * 1e6
        await refused(beside, made.token)
        # Of what may be that old it says so, too.
        await east.clock.advance(0.75 * bound_s)
        await beside._refresher.tick()
        assert beside.tools.hot.staleness_us(beside.realm()) == bound_s * 1e6

    cached(redis, test)


@pytest.mark.parametrize("policy", [Partition.FAIL_CLOSED, Partition.SERVE_LOCAL])
def test_ses_11_pages_answer_while_the_link_is_cut_as_the_realm_says_and_not_when_it_is_there_again(redis, policy):
    async def test(east, west, beside, fronts):
        bound_s = east.realm().policy.revocation_bound_us / 1e6
        made, stays = await east.create("alice"), await east.create("bob")
        with cut():
            await east.clock.advance(bound_s + 1)
            for site in (east, beside, west):
                await site._refresher.tick()
            await revoking.revoke_handle(west.tools, west.realm(), "app", made.session.handle)
            if policy is Partition.FAIL_CLOSED:
                for site in (east, beside):
                    with pytest.raises(Stale):
                        site.entered()
            for one in (made, stays):
                # Both know the same, and Redis spares the store what it can.
                await in_redis(beside, fronts["beside"], one)
            await away(fronts["east"])
        await whole(east, west, beside)
        await east.hears(west)
        await beside.hears(west)
        for site in (east, beside):
            site.entered()
            await refused(site, made.token)
            await valid(site, stays.token)

    cached(redis, test, on_partition=policy)


def test_ses_05_what_was_changed_through_the_other_data_centre_counts_at_home_within_half_the_bound(redis):
    async def test(east, west, beside, fronts):
        old = await east.create("alice")
        await in_redis(east, fronts["east"], old)
        new = await step_up(west, (await rotate(west, old.token)).token)
        cookie = cookies.cookie(west.tools, new.session.handle, new.session.revision)
        with pytest.raises(SessionInvalid):  # who wants to be sure brings the cookie of the change
            await validating.validate(east.tools, east.realm(), "app", old.token, hot=True, cookie=cookie)
        for site in (east, beside, west):
            assert (await valid(site, new.token)).session.level == 2
        await east.clock.advance(life_us(east.realm()) / 1e6)
        await east.hears(west)
        await refused(east, old.token)

    cached(redis, test)


def test_ses_12_sessions_of_the_other_data_centre_are_read_from_the_store(redis):
    async def test(east, west, beside, fronts):
        made = await west.create("alice")
        token = made.token
        for _ in range(2):
            await valid(east, token)
        assert not fronts["east"].counted("hit") and not fronts["east"].counted("miss")
        assert (await valid(east, token)).session.home == "west"
        await revoking.revoke_token(east.tools, east.realm(), "app", token)
        await refused(east, token)

    cached(redis, test)
