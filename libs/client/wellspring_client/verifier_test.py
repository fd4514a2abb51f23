"""SES-11: what a verifier remembers is never answered on knowledge older than the bound, whatever is cut or lost."""

import asyncio
import base64
import random
from hashlib import sha256

import pytest

from libs.clock.virtual import VirtualClock
from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.assertions import Assertions
from wellspring_client.assertions_fakes_test import GOOD, NOW_S, Published, but, signed
from wellspring_client.errors import AssertionInvalid, SessionInvalid, Unavailable
from wellspring_client.key_set import KeySet
from wellspring_client.known_sessions import Revoked
from wellspring_client.origin_test import Origin
from wellspring_client.revocation_feed import Feed
from wellspring_client.verifier import Verifier

BOUND_S = 5.0


def verifying(test, *, kept=1000, **settings):
    """Runs a test with an origin and a verifier that has heard it, in virtual time."""
    clock = VirtualClock(NOW_S * 10**9)

    async def main():
        origin = Origin(clock, kept)
        assertions = Assertions(KeySet(Published().fetch), audience="cart", realm="web", wall_ns=clock.time_ns)
        given = {"bound_s": BOUND_S, "assertions": assertions, "wall_ns": clock.time_ns, **settings}
        async with Verifier(origin, **given) as verifier:
            await asyncio.sleep(0.2)
            await test(origin, verifier, clock)

    clock.run(main())


async def outcome(call):
    try:
        return "good" if await call else "nothing"
    except (SessionInvalid, AssertionInvalid):
        return "invalid"
    except Unavailable:
        return "unavailable"


async def until(true):
    """Waits for what must come: pauses between attempts are drawn, and the longest is two seconds."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - nobody tells it
            await asyncio.sleep(0.1)


def assertion_of(number, clock, **changes):
    """An assertion of the session h<number>, issued now."""
    now_s = clock.time_ns() // 10**9
    sid = base64.urlsafe_b64encode(sha256(f"h{number}".encode()).digest()).rstrip(b"=").decode()
    return signed(but(sid=sid, iat=now_s, exp=now_s + 60, **changes))


def test_a_warm_answer_needs_no_call_and_is_asked_for_again_after_the_bound():
    async def test(origin, verifier, clock):
        token = origin.create()
        for _ in range(100):
            found = await verifier.token(token)
            assert (found.subject, found.level, found.anonymous) == ("alice", 1, False)
        assert origin.validated == 1 and verifier.fresh and verifier.trouble == ""
        await asyncio.sleep(BOUND_S + 0.1)
        await verifier.token(token)
        assert origin.validated == 2
        verifier.forget(token)
        await verifier.token(token)
        assert origin.validated == 3

    verifying(test)


@pytest.mark.parametrize("by", ["token", "subject", "realm"])
def test_ses_11_a_revocation_is_enforced_within_the_bound(by):
    async def test(origin, verifier, clock):
        for _ in range(20):
            mine, other = origin.create("alice"), origin.create("bob")
            assert await outcome(verifier.token(mine)) == await outcome(verifier.token(other)) == "good"
            origin.revoke(**{"token": {"token": mine}, "subject": {"subject": "alice"}, "realm": {}}[by])
            began_s = clock.monotonic()
            for _ in range(int(BOUND_S / 0.01)):
                if await outcome(verifier.token(mine)) != "good":
                    break
                await asyncio.sleep(0.01)
            # The feed tells long before the bound.
            assert clock.monotonic() - began_s <= 0.5 and await outcome(verifier.token(mine)) == "invalid"
            assert await outcome(verifier.token(other)) == ("invalid" if by == "realm" else "good")

    verifying(test)


@pytest.mark.parametrize("how", ["cut", "silent"])
def test_ses_11_a_verifier_whose_feed_is_cut_refuses_after_the_bound(how):
    async def test(origin, verifier, clock):
        token = origin.create()
        origin.calls_cut = False
        began_s = clock.monotonic()
        if how == "cut":
            origin.feed_cut = True
        else:
            origin.feed_hangs = True
        origin.revoke(token=token)
        origin.sessions[token].live = True  # answered once more by a server that has not heard of it
        await outcome(verifier.token(token))
        origin.calls_cut = True
        origin.sessions[token].live = False
        seen = []
        while clock.monotonic() - began_s < 4 * BOUND_S:
            seen.append((clock.monotonic() - began_s, await outcome(verifier.token(token))))
            await asyncio.sleep(0.05)
        assert {what for _, what in seen} == {"good", "unavailable"}, "never invalid: it is not known"
        assert max(at_s for at_s, what in seen if what == "good") <= BOUND_S
        assert not verifier.fresh and verifier.trouble
        assert await outcome(verifier.assertion(assertion_of(1, clock))) == "unavailable"
        # When it returns, it is taken up where it was, and tells what was revoked meanwhile.
        origin.feed_cut = origin.feed_hangs = False
        await asyncio.sleep(BOUND_S)
        assert verifier.fresh and origin.resumed[-1] not in ("", None)
        origin.calls_cut = False
        assert await outcome(verifier.token(token)) == "invalid"

    verifying(test)


def test_ses_11_while_only_the_feed_is_cut_the_service_is_asked_each_time():
    async def test(origin, verifier, clock):
        token = origin.create()
        await verifier.token(token)
        origin.feed_cut = True
        await asyncio.sleep(2 * BOUND_S)
        asked = origin.validated
        for _ in range(10):
            assert await outcome(verifier.token(token)) == "good"
        assert origin.validated == asked + 10
        origin.revoke(token=token)
        assert await outcome(verifier.token(token)) == "invalid"

    verifying(test)


def test_ses_11_a_resume_loses_no_revocation():
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")

    async def test(origin, verifier, clock):
        rng = random.Random(seed)
        told = []
        inner = verifier._feed._on_revoked

        def both(one):
            told.append(one)
            inner(one)

        verifier._feed._on_revoked = both
        for _ in range(200):
            origin.feed_cut = rng.random() < 0.4
            origin.feed_hangs = rng.random() < 0.1
            origin.revoke(token=origin.create())
            await asyncio.sleep(rng.random() * 2)
        origin.feed_cut = origin.feed_hangs = False
        await asyncio.sleep(3 * BOUND_S)
        assert told == origin.log and verifier.fresh

    verifying(test)


def test_ses_11_away_for_too_long_everything_is_dropped():
    async def test(origin, verifier, clock):
        token, kept = origin.create(), origin.create("bob")
        old = assertion_of(2, clock)
        await verifier.token(token)
        await verifier.token(kept)
        assert verifier.entries == 2
        origin.feed_cut = True
        origin.revoke(token=token)
        for _ in range(50):
            origin.revoke(token=origin.create())
        await asyncio.sleep(1)
        origin.feed_cut = False
        await until(lambda: "" in origin.resumed[1:] and verifier.fresh)
        assert verifier.entries == 0
        assert await outcome(verifier.token(token)) == "invalid" and await outcome(verifier.token(kept)) == "good"
        assert await outcome(verifier.assertion(old)) == "unavailable", "whether it was revoked is not known any more"
        await asyncio.sleep(1)
        assert await outcome(verifier.assertion(assertion_of(2, clock))) == "good"

    verifying(test, kept=10)


def test_ses_11_a_revocation_that_overtakes_an_answer_wins():
    async def test(origin, verifier, clock):
        origin.delay_s = 1.0
        token = origin.create()
        asking = asyncio.create_task(outcome(verifier.token(token)))
        await asyncio.sleep(0.1)  # decided, and on its way
        origin.revoke(token=token)
        await asyncio.sleep(0.3)
        assert await asking == "invalid" and verifier.entries == 0

    verifying(test)


def test_ses_11_what_was_asked_before_the_feed_was_heard_is_not_remembered():
    async def test(origin, verifier, clock):
        token = origin.create()
        origin.feed_cut = True
        await asyncio.sleep(0.2)
        async with Verifier(origin, bound_s=BOUND_S, wall_ns=clock.time_ns) as late:
            origin.delay_s = 0.5
            asking = asyncio.create_task(late.token(token))
            await asyncio.sleep(0.05)
            origin.revoke(token=token)  # before the feed is heard: it will never be told
            origin.feed_cut = False
            await asking
            origin.delay_s = 0.0
            await until(lambda: late.fresh)
            assert late.entries == 0
            assert await outcome(late.token(token)) == "invalid"

    verifying(test)


def test_ses_11_a_feed_that_is_late_is_as_stale_as_one_that_is_cut():
    async def test(origin, verifier, clock):
        assert verifier.fresh
        origin.feed_delay_s, origin.behind_s = 4.9, 3.0  # each message comes in time, and speaks of long ago
        await asyncio.sleep(60)
        assert not verifier.fresh and "clocks apart" in verifier.trouble
        origin.feed_delay_s, origin.behind_s = 0.0, -30.0
        await asyncio.sleep(60)
        assert not verifier.fresh and "clocks apart" in verifier.trouble
        origin.behind_s = 0.5
        await asyncio.sleep(10)
        assert verifier.fresh

    verifying(test)


def test_ses_11_an_origin_that_forgot_makes_everything_forgotten():
    async def test(origin, verifier, clock):
        for _ in range(3):
            origin.revoke(token=origin.create())
        token = origin.create()
        await asyncio.sleep(1)
        await verifier.token(token)
        origin.log.clear()
        await asyncio.sleep(1)
        assert verifier.entries == 0 and verifier.fresh

    verifying(test)


def test_ses_11_an_origin_whose_numbers_go_back_makes_everything_forgotten():
    class Restored:
        asked = []

        async def watch_revocations(self, *, resume_token=""):
            self.asked.append(resume_token)
            for sequence in (5, 3, 4):
                answer = pb.WatchRevocationsResponse(resume_token=f"r{sequence}")
                answer.heartbeats.add(origin="local", sequence=sequence).time.seconds = NOW_S
                yield answer
            await asyncio.sleep(1e6)

    async def main():
        resets, source = [], Restored()
        told = {"on_revoked": resets.append, "on_reset": lambda: resets.append("all"), "wall_ns": clock.time_ns}
        following = asyncio.create_task(Feed(source, bound_s=5, skew_s=1, **told).run())
        await asyncio.sleep(0.01)
        assert resets == ["all"]
        await asyncio.sleep(0.2)
        following.cancel()
        assert set(source.asked) == {""}, "what a restored origin would resume from is another history"

    clock = VirtualClock(NOW_S * 10**9)
    clock.run(main())


def test_ses_11_what_was_remembered_just_before_the_feed_went_stale_goes_with_it():
    async def test(origin, verifier, clock):
        token = origin.create()
        origin.feed_cut = True
        await asyncio.sleep(BOUND_S - 1)
        await verifier.token(token)
        await verifier.token(token)
        assert origin.validated == 1, "still fresh"
        await asyncio.sleep(1.5)
        await verifier.token(token)
        assert origin.validated == 2, "no older than the bound itself, but nobody would have told of its end"

    verifying(test)


def test_memory_is_bounded():
    async def test(origin, verifier, clock):
        tokens = [origin.create(f"u{n}") for n in range(500)]
        for token in tokens:
            await verifier.token(token)
        assert verifier.entries == 50
        asked = origin.validated
        await verifier.token(tokens[-1])
        assert origin.validated == asked, "the last ones are kept"
        for token in tokens:
            origin.revoke(token=token)
        await asyncio.sleep(1)
        assert verifier.entries == 0
        cache = verifier._cache
        assert not cache._of_handle and not cache._of_subject and len(verifier._revoked._found) <= 50

    verifying(test, max_entries=50)


def test_a_session_that_lives_by_activity_is_asked_for_often_enough():
    async def test(origin, verifier, clock):
        token = origin.create(idle_s=4.0)
        for _ in range(20):
            await verifier.token(token)
            await asyncio.sleep(1.01)
        assert origin.validated == 20

    verifying(test)


def test_an_assertion_is_cut_short_by_the_revocation_of_its_session_or_subject():
    async def test(origin, verifier, clock):
        await asyncio.sleep(2)
        tokens = [origin.create() for _ in range(3)]
        one, two = assertion_of(1, clock), assertion_of(2, clock)
        assert await outcome(verifier.check(one)) == await outcome(verifier.check(two)) == "good"
        origin.revoke(token=tokens[0])
        await asyncio.sleep(0.5)
        assert await outcome(verifier.check(one)) == "invalid" and await outcome(verifier.check(two)) == "good"
        origin.revoke(subject=GOOD["sub"])
        await asyncio.sleep(0.5)
        assert await outcome(verifier.check(two)) == "invalid"
        await asyncio.sleep(1)
        assert await outcome(verifier.check(assertion_of(3, clock))) == "good", "a login of afterwards"
        last = assertion_of(3, clock)
        await asyncio.sleep(1)
        origin.revoke()
        await asyncio.sleep(0.5)
        assert await outcome(verifier.check(last)) == "invalid"
        await asyncio.sleep(70)
        assert await outcome(verifier.check(last)) == "invalid"
        assert origin.validated == 0

    verifying(test)


def test_more_revocations_than_memory_close_the_door_instead_of_opening_it():
    revoked = Revoked(keep_s=100.0, most=3)
    for number in range(5):
        one = pb.WatchRevocationsResponse.Revocation(handle_hash=bytes([number]))
        one.time.seconds = 1000 + number
        revoked.note(one, float(number))
    assert revoked.floor_s == 1001 and revoked.ended(bytes([4]), "", 999) and not revoked.ended(bytes([0]), "", 999)
    late = pb.WatchRevocationsResponse.Revocation(handle_hash=b"z")
    revoked.note(late, 500.0)
    assert revoked.floor_s == 1001, "what is too old to matter goes without closing anything"


def test_settings_out_of_bounds_are_refused():
    for wrong in ({"bound_s": 0.4}, {"bound_s": 301}, {"skew_s": -1}, {"max_entries": 0}, {"timeout_s": 0}):
        with pytest.raises(ValueError):
            Verifier(None, **wrong)

    async def test(origin, verifier, clock):
        plain = Verifier(origin, wall_ns=clock.time_ns)
        with pytest.raises(ValueError, match="assertions="):
            await plain.assertion("x.y.z")
        # Outside of its context it remembers nothing and asks.
        token = origin.create()
        assert await plain.token(token) and await plain.token(token) and origin.validated == 2

    verifying(test)
