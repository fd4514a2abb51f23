"""Canaries tell when revocation is kept, late, or broken; and leave nothing behind."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from libs.clock.clock import SystemClock
from libs.paging.paging import PageTokens
from services.session.canary import IDENTITY, Canary, open_realm
from services.session.conformance.harness import opened, over, service
from services.session.domain.errors import PolicyRefused, RealmNotFound
from services.session.store.interface import Revoked

# The store in memory: a wait for a real disk would let the virtual clock jump to the end of a canary's patience.
each = pytest.mark.parametrize("store", ["memory"])


async def canary(s, **more):
    await open_realm(s.tools.realms, "canary")
    registry = CollectorRegistry()
    settings = {"realm": "canary", "interval_s": 10.0, "bound_s": 5.0} | more
    return Canary(s.tools, PageTokens([bytes(32)], s.clock), registry, **settings), registry


def figure(registry, name, **labels):
    return registry.get_sample_value(name, labels)


@each
def test_ses_11_a_revocation_is_measured_at_the_server_and_in_the_feed(store):
    async def test(s):
        one, registry = await canary(s)
        for _ in range(3):
            assert await one.measure() == "kept"
        assert figure(registry, "wellspring_session_canaries_total", outcome="kept") == 3
        for seen_by in ("server", "feed"):
            assert figure(registry, "wellspring_session_canary_revocation_seconds_count", seen_by=seen_by) == 3
        assert figure(registry, "wellspring_session_canary_last_seconds") > 0
        assert (await s.tools.store.usage("canary")).sessions == 0, "nothing is left of them"

    over(store, test)


def test_ses_11_a_revocation_is_measured_over_a_real_disk_and_clock():
    async def main():
        async with opened("embedded") as store:
            one, registry = await canary(await service(store, clock=SystemClock()), bound_s=60.0)
            for _ in range(3):
                assert await one.measure() == "kept"
            assert figure(registry, "wellspring_session_canaries_total", outcome="kept") == 3

    asyncio.run(main())


@each
def test_ses_11_a_feed_that_is_slow_is_late_and_one_that_is_cut_has_failed(store):
    async def test(s):
        one, registry = await canary(s)
        told = s.tools.store.revocations
        hidden_until = [0.0]

        async def slow(realm, after, limit):
            answer = await told(realm, after, limit)
            return answer if s.clock.monotonic() >= hidden_until[0] else Revoked([], answer.oldest, after)

        async def first(realm, after, limit):
            # The watcher's place is found, then the feed stands still.
            s.tools.store.revocations = slow
            return await told(realm, after, limit)

        for stands_s, outcome in ((7.0, "late"), (1000.0, "failed")):
            hidden_until[0] = s.clock.monotonic() + stands_s
            s.tools.store.revocations = first
            assert await one.measure() == outcome
        assert figure(registry, "wellspring_session_canaries_total", outcome="failed") == 1

    over(store, test)


@each
def test_ses_11_a_token_that_is_good_after_its_revocation_is_told(store):
    async def test(s):
        one, registry = await canary(s)

        async def keeps(realm, ends):
            return 0

        end = s.tools.store.end
        s.tools.store.end = keeps
        assert await one.measure() == "alive"
        s.tools.store.end = end
        assert await one.measure() == "kept"
        await s.clock.sleep(301)
        assert await one.measure() == "kept"

    over(store, test)


@each
def test_the_realm_of_canaries_is_nobody_elses(store):
    async def test(s):
        await canary(s)
        await canary(s)
        for caller in ("app", "anonymous"):
            with pytest.raises(RealmNotFound):
                s.tools.realms.enter("canary", caller, "Create")
        s.tools.realms.enter("canary", IDENTITY, "Create")
        with pytest.raises(PolicyRefused, match="is somebody's"):
            await open_realm(s.tools.realms, "web")

    over(store, test)
