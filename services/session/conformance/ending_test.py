"""What ends sessions, over every store: revocations, timeouts, limits, erasure; and nothing else does or undoes it."""

from dataclasses import replace

import pytest

from libs.errors.errors import WellspringError
from services.session.conformance.harness import STORES, over
from services.session.conformance.verbs import data, refused, rotate, step_up, update, valid
from services.session.crypto import tokens
from services.session.domain import listing, revoking, validating
from services.session.domain.errors import (
    AnonymousNotAllowed,
    AuthenticationRevoked,
    SessionLimit,
)
from services.session.domain.operations import Operation
from services.session.domain.policy import DAY, HOUR, MINUTE, SECOND, Limit, Timeouts

pytestmark = pytest.mark.parametrize("store", STORES)


def test_ses_06_only_activity_that_is_meant_moves_the_idle_timeout(store):
    async def test(s):
        await s.set_policy(timeouts=(Timeouts(HOUR, DAY), Timeouts(HOUR, DAY), Timeouts(MINUTE, HOUR)))
        silent, active = await s.create("a"), await s.create("b")
        for _ in range(5):
            await s.clock.advance(50 * 60)
            await valid(s, active.token, touch=True)
        await refused(s, silent.token)
        looked_at = await s.create("c")
        await s.clock.advance(30 * 60)
        await valid(s, looked_at.token, data_keys=["*"])
        await validating.find(s.tools, s.realm(), looked_at.session.handle)
        await update(s, looked_at.token, Operation("k", set=b"v"))
        await s.clock.advance(31 * 60)
        await refused(s, looked_at.token)

    over(store, test)


def test_ses_07_the_absolute_timeout_moves_by_authenticating_again_only(store):
    async def test(s):
        made = await s.create("a", level=2)
        end_us = made.session.ends_us
        assert end_us <= made.session.auth_us + DAY
        token = made.token
        for _ in range(40):
            await s.clock.advance(30 * 60)
            token = (await rotate(s, token)).token
            assert (await valid(s, token, touch=True)).session.ends_us == end_us
        again = await step_up(s, token, level=2)
        assert again.session.ends_us > end_us
        for _ in range(60):
            await s.clock.advance(23 * 60)
            await valid(s, again.token, touch=True)
        await s.clock.advance(24 * 3600 - 60 * 23 * 60 + 1)
        await refused(s, again.token)

    over(store, test)


def test_a_policy_made_shorter_counts_at_once_and_one_made_longer_does_not(store):
    async def test(s):
        made = await s.create("a", level=2)
        longer = Timeouts(20 * DAY, 30 * DAY)
        idle = await s.create("b", level=2)
        await s.clock.advance(1800)
        await valid(s, made.token, touch=True)
        await s.clock.advance(1801)
        await refused(s, idle.token)
        await s.set_policy(timeouts=(longer, longer, longer), justification="a test")
        await refused(s, idle.token)
        for _ in range(46):
            await valid(s, made.token, touch=True)
            await s.clock.advance(1750)
        await s.clock.advance(86400 - 3601 - 46 * 1750)
        await refused(s, made.token)
        made = await s.create("a", level=1)
        await s.set_policy(
            timeouts=(Timeouts(HOUR, HOUR), Timeouts(HOUR, HOUR), Timeouts(MINUTE, HOUR)), justification=""
        )
        await s.clock.advance(3600 + 1)
        await refused(s, made.token)

    over(store, test)


def test_time_set_back_revives_nothing(store):
    async def test(s):
        made = await s.create("a", level=3)
        await s.clock.advance(13 * 3600)
        await refused(s, made.token)
        s.clock.set_wall(s.clock.time_ns() - 12 * 3600 * 10**9)
        await refused(s, made.token)

    over(store, test)


def test_ses_33_anonymous_sessions_have_a_limit_of_their_own(store):
    async def test(s):
        with pytest.raises(AnonymousNotAllowed):
            await s.set_policy(max_anonymous=0)
            await s.create("")
        await s.set_policy(max_anonymous=2)
        alice = await s.create("alice")
        rid = s.uuid()
        await s.create("")
        await s.create("", request_id=rid)
        with pytest.raises(SessionLimit):
            await s.create("")
        await s.create("", request_id=rid)  # in the place of the one before
        await s.create("bob")
        await valid(s, alice.token)

    over(store, test)


def test_ses_09_each_way_to_revoke(store):
    async def test(s):
        a, b, c, d = [await s.create() for _ in range(4)]
        bob = await s.create("bob")
        assert await revoking.revoke_handle(s.tools, s.realm(), "app", d.session.handle) == 1
        assert await revoking.revoke_others(s.tools, s.realm(), "app", a.token) == 2
        await valid(s, a.token)
        for gone in (b, c, d):
            await refused(s, gone.token)
        e = await s.create()
        assert await revoking.revoke_subject(s.tools, s.realm(), "app", "alice") == 2
        assert await revoking.revoke_subject(s.tools, s.realm(), "app", "alice") == 0
        await refused(s, a.token)
        await refused(s, e.token)
        await valid(s, bob.token)
        await s.create()
        await revoking.revoke_realm(s.tools, s.realm(), "app")
        await refused(s, bob.token)
        await valid(s, (await s.create()).token)

    over(store, test)


def test_ses_09_a_login_from_before_a_revocation_of_all_comes_too_late(store):
    async def test(s):
        long_ago = s.tools.clock.now_us() - 5 * SECOND
        await s.create("alice", auth_us=long_ago)
        await revoking.revoke_subject(s.tools, s.realm(), "app", "alice")
        with pytest.raises(AuthenticationRevoked):
            await s.create("alice", auth_us=long_ago)
        await s.create("bob", auth_us=long_ago)
        await s.create("alice")

    over(store, test)


def test_ses_10_no_write_to_a_session_revives_it(store):
    async def test(s):
        made = await s.create(data={"k": b"v"})
        before = (await s.tools.store.read("web", made.session.handle)).session
        await revoking.revoke_token(s.tools, s.realm(), "app", made.token)
        # A write that was decided before the revocation and arrives after it.
        assert not await s.tools.store.replace(before, replace(before, revision=before.revision + 1))
        await refused(s, made.token)
        live = await s.create()
        row = (await s.tools.store.read("web", live.session.handle)).session
        await revoking.revoke_realm(s.tools, s.realm(), "app")
        assert await s.tools.store.replace(row, replace(row, revision=row.revision + 1, active_us=row.active_us + 1))
        await refused(s, live.token)

    over(store, test)


def test_ses_14_limits_of_a_subject(store):
    async def test(s):
        await s.set_policy(max_sessions_per_subject=2, limit=Limit.REJECT)
        a = await s.create()
        await s.clock.advance(1)
        b = await s.create()
        with pytest.raises(SessionLimit):
            await s.create()
        await s.create("bob")
        await s.set_policy(max_sessions_per_subject=2, limit=Limit.EVICT_OLDEST)
        c = await s.create()
        await refused(s, a.token)
        await s.clock.advance(120)
        await valid(s, b.token, touch=True)
        await s.set_policy(max_sessions_per_subject=2, limit=Limit.EVICT_LEAST_RECENTLY_USED)
        await s.create()
        await refused(s, c.token)
        await valid(s, b.token)

    over(store, test)


def test_ses_32_a_list_is_paged_and_has_no_ghosts(store):
    async def test(s):
        made = [await s.create() for _ in range(7)]
        await revoking.revoke_token(s.tools, s.realm(), "app", made[3].token)
        seen, after = [], None
        while True:
            page = await listing.by_subject(s.tools, s.realm(), "alice", after, 2)
            seen += [x.handle for x in page.sessions]
            after = page.resume
            if after is None:
                break
        assert sorted(seen) == sorted(m.session.handle for m in made if m is not made[3])
        await s.clock.advance(31 * 86400)
        assert not (await listing.by_subject(s.tools, s.realm(), "alice", None, 10)).sessions

    over(store, test)


def test_ses_16_an_erased_subject_reads_nothing_even_from_a_copy(store):
    async def test(s):
        made = await s.create(data={"k": b"v"})
        copy = await s.tools.store.read("web", made.session.handle, kinds=b"ds")
        erased = await revoking.erase_subject(s.tools, s.realm(), "app", "alice")
        assert erased.sessions == 1
        await refused(s, made.token)
        assert await s.tools.store.subject_key("web", copy.session.subject) is None
        again = await s.create(data={"k": b"new"})
        assert await data(s, again.token) == {"k": b"new"}
        # The new key does not open what the old one wrapped.
        found = await s.tools.vault.subject_key("web", copy.session.subject)
        with pytest.raises(WellspringError):
            s.tools.vault.unwrap(copy.session.tokens[0].wrapped, tokens.parse(made.token), found[0])

    over(store, test)


def test_ses_27_sessions_of_one_moment_do_not_end_in_one(store):
    async def test(s):
        ends = [(await s.create(f"u{i}")).session.ends_us for i in range(200)]
        longest = s.tools.clock.now_us() + 30 * DAY
        assert max(ends) <= longest and min(ends) >= longest - DAY // 2 - SECOND
        assert len({end // SECOND for end in ends}) > 190

    over(store, test)
