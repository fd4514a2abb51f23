"""What sessions do, over every store: the life of one, and what ends it."""

from dataclasses import replace

import pytest

from libs.errors.errors import WellspringError
from services.session.conformance.harness import STORES, over
from services.session.crypto import tokens
from services.session.domain import listing, revoking, rotating, updating, validating
from services.session.domain.creating import Assurance
from services.session.domain.errors import (
    AnonymousNotAllowed,
    AuthenticationRevoked,
    DataTooLarge,
    RequestReused,
    SessionInvalid,
    SessionLimit,
    SessionNotFound,
    SubjectDiffers,
    TokenMalformed,
    VersionMismatch,
)
from services.session.domain.operations import Operation
from services.session.domain.policy import DAY, HOUR, MINUTE, SECOND, Limit, Timeouts

pytestmark = pytest.mark.parametrize("store", STORES)


async def valid(s, token, **kwargs):
    return await validating.validate(s.tools, s.realm(), "app", token, **kwargs)


async def refused(s, token, error=SessionInvalid, realm="web"):
    with pytest.raises(error) as caught:
        await validating.validate(s.tools, s.realm(realm), "app", token)
    return caught.value


async def rotate(s, token, privilege=False, request_id=""):
    rid = request_id or s.uuid()
    return await rotating.rotate(s.tools, s.realm(), "app", token, privilege=privilege, request_id=rid)


async def step_up(s, token, level=2, subject="", request_id="", auth_us=0):
    return await rotating.reauthenticate(
        s.tools, s.realm(), "app", token, Assurance(level, ("otp",), auth_us), subject, request_id or s.uuid()
    )


async def update(s, token, *operations, request_id="", caller="app"):
    return await updating.update_data(s.tools, s.realm(), caller, token, operations, request_id or s.uuid())


async def data(s, token):
    return {k: v.value for k, v in (await valid(s, token, data_keys=["*"])).data.items()}


def test_a_session_from_login_to_logout(store):
    async def test(s):
        made = await s.create("alice", data={"cart": b"3 apples"})
        found = await valid(s, made.token, data_keys=["cart", "nothing"])
        assert {k: v.value for k, v in found.data.items()} == {"cart": b"3 apples"}
        assert found.session.handle == made.session.handle and found.session.level == 1
        assert await revoking.revoke_token(s.tools, s.realm(), "app", made.token) == 1
        await refused(s, made.token)
        assert await revoking.revoke_token(s.tools, s.realm(), "app", made.token) == 0

    over(store, test)


def test_SES_02_what_was_never_minted_creates_nothing(store):
    async def test(s):
        made = await s.create()
        other = await s.create()
        swapped = made.token.split(b".")[0] + b"." + other.token.split(b".")[1]
        await refused(s, swapped, TokenMalformed)
        for text in (b"", b"wss_web_x.y", b"x" * 500, b"\xff\x00"):
            await refused(s, text, TokenMalformed)
        assert (await s.tools.store.usage("web")).sessions == 2

    over(store, test)


def test_SES_31_a_realms_token_is_nothing_in_another(store):
    async def test(s):
        made = await s.create()
        await refused(s, made.token, realm="app")
        assert await revoking.revoke_token(s.tools, s.realm("app"), "app", made.token) == 0
        handle = made.session.handle
        assert await revoking.revoke_handle(s.tools, s.realm("app"), "app", handle) == 0
        with pytest.raises(SessionNotFound):
            await validating.find(s.tools, s.realm("app"), handle)
        assert not (await listing.by_subject(s.tools, s.realm("app"), "alice", None, 10)).sessions
        await revoking.revoke_subject(s.tools, s.realm("app"), "app", "alice")
        await revoking.revoke_realm(s.tools, s.realm("app"), "app")
        await revoking.erase_subject(s.tools, s.realm("app"), "app", "alice")
        await valid(s, made.token, data_keys=["*"])

    over(store, test)


def test_SES_21_one_answer_for_whatever_is_not_valid(store):
    async def test(s):
        realm = s.realm()
        expired, revoked, realm_revoked = await s.create("a"), await s.create("b"), await s.create("c", realm="app")
        foreign = await s.create(realm="app")
        await s.clock.advance(31 * 86400)
        fresh = await s.create("d")
        await revoking.revoke_token(s.tools, realm, "app", revoked.token)
        other = await s.create("b")
        await revoking.revoke_subject(s.tools, realm, "app", "b")
        erased = await s.create("e")
        await revoking.erase_subject(s.tools, realm, "app", "e")
        deleted = await s.create("f")
        await s.tools.store.remove("web", [deleted.session.handle])
        answers = set()
        for token in (expired, revoked, realm_revoked, foreign, other, erased, deleted):
            error = await refused(s, token.token)
            answers.add((type(error), error.message, error.reason, tuple(error.metadata.items())))
        assert len(answers) == 1
        await valid(s, fresh.token)

    over(store, test)


def test_SES_06_only_activity_that_is_meant_moves_the_idle_timeout(store):
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


def test_SES_07_the_absolute_timeout_moves_by_authenticating_again_only(store):
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
        await s.set_policy(timeouts=(longer, longer, longer), justification="a test")
        await s.clock.advance(86400 + 1)
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


def test_SES_05_the_old_token_has_a_grace_and_then_ends_the_family(store):
    async def test(s):
        made = await s.create()
        child = await rotate(s, made.token)
        assert child.token != made.token and child.session.handle == made.session.handle
        await valid(s, made.token)
        await s.clock.advance(29)
        await valid(s, made.token)
        await s.clock.advance(2)
        await valid(s, child.token)
        await refused(s, made.token)
        await refused(s, child.token)
        assert [e["handle"] for e in s.events.of("session_theft")] == [made.session.handle]

    over(store, test)


def test_SES_05_two_rotations_at_once_are_both_usable_until_one_goes_on(store):
    async def test(s):
        made = await s.create()
        one, two = await rotate(s, made.token), await rotate(s, made.token)
        await s.clock.advance(60)
        await valid(s, one.token)
        await valid(s, two.token)
        three = await rotate(s, one.token)
        await valid(s, two.token)
        await s.clock.advance(31)
        await valid(s, three.token)
        await refused(s, two.token)  # a copy in other hands: the family ends
        await refused(s, three.token)

    over(store, test)


def test_SES_05_an_old_token_long_after_is_still_noticed(store):
    async def test(s):
        made = await s.create()
        token = made.token
        for _ in range(20):
            await s.clock.advance(60)
            token = (await rotate(s, token)).token
        await valid(s, token)
        await refused(s, made.token)
        await refused(s, token)

    over(store, test)


def test_a_step_up_has_no_grace_and_requests_in_flight_are_not_theft(store):
    async def test(s):
        made = await s.create(data={"k": b"v"}, shared={"p": b"q"})
        high = await step_up(s, made.token, level=2)
        assert high.session.level == 2 and high.session.methods == ("otp",)
        await refused(s, made.token)
        assert await data(s, high.token) == {"k": b"v"}
        await s.clock.advance(31)
        await valid(s, high.token)
        await refused(s, made.token)
        await refused(s, high.token)

    over(store, test)


def test_a_rotation_asked_for_again_mints_anew_and_the_first_child_is_nothing(store):
    async def test(s):
        for privilege in (False, True):
            made, rid = await s.create(data={"k": b"v"}), s.uuid()
            lost = await rotate(s, made.token, privilege, rid)
            kept = await rotate(s, made.token, privilege, rid)
            assert kept.token != lost.token
            await refused(s, lost.token)
            assert await data(s, kept.token) == {"k": b"v"}
            # Used, so received: nobody asks for another one with the old token.
            await valid(s, kept.token, touch=True)
            await s.clock.advance(31)
            with pytest.raises(SessionInvalid):
                await rotate(s, made.token, privilege, rid)

    over(store, test)


def test_a_login_asked_for_again_ends_the_session_nobody_received(store):
    async def test(s):
        rid = s.uuid()
        lost, kept = await s.create(request_id=rid), await s.create(request_id=rid)
        await refused(s, lost.token)
        await valid(s, kept.token)
        assert len((await listing.by_subject(s.tools, s.realm(), "alice", None, 10)).sessions) == 1
        with pytest.raises(RequestReused):
            await s.create("bob", request_id=rid)
        await s.create("bob", request_id=rid, caller="other")
        await s.clock.advance(601)
        await s.create(request_id=rid)
        await valid(s, kept.token)

    over(store, test)


def test_an_anonymous_session_becomes_somebodys(store):
    async def test(s):
        made = await s.create("", data={"cart": b"1"}, shared={"note": b"2"})
        assert made.session.anonymous and made.session.level == 0
        assert await s.tools.store.anonymous("web") == 1
        high = await step_up(s, made.token, level=1, subject="alice")
        assert not high.session.anonymous and await s.tools.store.anonymous("web") == 0
        assert await data(s, high.token) == {"cart": b"1"}
        _, shared = await validating.shared_values(s.tools, s.realm(), "app", high.session.handle, ["*"])
        assert {k: v.value for k, v in shared.items()} == {"note": b"2"}
        listed = await listing.by_subject(s.tools, s.realm(), "alice", None, 10)
        assert [x.handle for x in listed.sessions] == [made.session.handle]
        with pytest.raises(SubjectDiffers):
            await step_up(s, high.token, subject="bob")
        await revoking.revoke_subject(s.tools, s.realm(), "app", "alice")
        await refused(s, high.token)

    over(store, test)


def test_SES_33_anonymous_sessions_have_a_limit_of_their_own(store):
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


def test_SES_09_each_way_to_revoke(store):
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


def test_SES_09_a_login_from_before_a_revocation_of_all_comes_too_late(store):
    async def test(s):
        long_ago = s.tools.clock.now_us() - 5 * SECOND
        await s.create("alice", auth_us=long_ago)
        await revoking.revoke_subject(s.tools, s.realm(), "app", "alice")
        with pytest.raises(AuthenticationRevoked):
            await s.create("alice", auth_us=long_ago)
        await s.create("bob", auth_us=long_ago)
        await s.create("alice")

    over(store, test)


def test_SES_10_no_write_to_a_session_revives_it(store):
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


def test_SES_14_limits_of_a_subject(store):
    async def test(s):
        await s.set_policy(max_sessions_per_subject=2, limit=Limit.REJECT)
        a, b = await s.create(), await s.create()
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


def test_SES_32_a_list_is_paged_and_has_no_ghosts(store):
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


def test_SES_13_data_by_key_with_compare_and_set(store):
    async def test(s):
        t = (await s.create(data={"a": b"1"})).token
        answer = await update(s, t, Operation("a", set=b"2", if_version=1), Operation("n", add=5))
        assert answer.versions == {"a": 2, "n": 1} and answer.counters == {"n": 5}
        with pytest.raises(VersionMismatch) as caught:
            await update(s, t, Operation("b", set=b"x"), Operation("a", set=b"3", if_version=1))
        assert caught.value.metadata == {"key": "a", "version": "2"}
        assert await data(s, t) == {"a": b"2", "n": b"5"}
        assert (await update(s, t, Operation("a"))).versions == {"a": 0}
        # A version never means two values, also when a key comes back.
        assert (await update(s, t, Operation("a", set=b"new", if_version=0))).versions == {"a": 3}
        await update(s, t, Operation("nonce", set=b"1", once=True))
        with pytest.raises(VersionMismatch):
            await update(s, t, Operation("nonce", set=b"1", once=True))

    over(store, test)


def test_an_update_asked_for_again_is_done_once(store):
    async def test(s):
        made, rid = await s.create(), s.uuid()
        first = await update(s, made.token, Operation("n", add=1), request_id=rid)
        assert await update(s, made.token, Operation("n", add=1), request_id=rid) == first
        with pytest.raises(RequestReused):
            await update(s, made.token, Operation("n", add=2), request_id=rid)
        # Also over a rotation that changed the data key.
        token = (await rotate(s, made.token, privilege=True)).token
        assert await update(s, token, Operation("n", add=1), request_id=rid) == first
        assert await data(s, token) == {"n": b"1"}

    over(store, test)


def test_SES_30_limits_of_data(store):
    async def test(s):
        await s.set_policy(max_data_bytes=100, max_data_keys=3)
        t = (await s.create(data={"a": b"x" * 40}, shared={"b": b"x" * 40})).token
        for wrong in ([Operation("c", set=b"x" * 20)], [Operation("c", set=b""), Operation("d", set=b"")]):
            with pytest.raises(DataTooLarge):
                await update(s, t, *wrong)
        await update(s, t, Operation("a"), Operation("c", set=b"x" * 50))
        with pytest.raises(DataTooLarge):
            await s.create(data={"a": b"x" * 100})
        # What is above a limit that was lowered may shrink.
        await s.set_policy(max_data_bytes=10, max_data_keys=1)
        await update(s, t, Operation("c", set=b"x" * 30))

    over(store, test)


def test_the_shared_compartment_by_handle(store):
    async def test(s):
        made = await s.create(data={"k": b"secret"}, shared={"flag": b"1"})
        handle, realm = made.session.handle, s.realm()
        got = await updating.update_shared(s.tools, realm, "app", handle, [Operation("flag", add=1)], s.uuid())
        assert got.counters == {"flag": 2}
        _, values = await validating.shared_values(s.tools, realm, "app", handle, ["*", "k"])
        assert {k: v.value for k, v in values.items()} == {"flag": b"2"}
        assert await data(s, made.token) == {"k": b"secret"}
        await revoking.revoke_token(s.tools, realm, "app", made.token)
        with pytest.raises(SessionNotFound):
            await updating.update_shared(s.tools, realm, "app", handle, [Operation("flag", add=1)], s.uuid())

    over(store, test)


def test_SES_16_an_erased_subject_reads_nothing_even_from_a_copy(store):
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


def test_SES_27_sessions_of_one_moment_do_not_end_in_one(store):
    async def test(s):
        ends = [(await s.create(f"u{i}")).session.ends_us for i in range(200)]
        longest = s.tools.clock.now_us() + 30 * DAY
        assert max(ends) <= longest and min(ends) >= longest - DAY // 2 - SECOND
        assert len({end // SECOND for end in ends}) > 190

    over(store, test)


def test_SES_28_a_thousand_reads_write_once_at_most(store):
    async def test(s):
        made = await s.create(data={"k": b"v"})
        await s.clock.advance(61)
        for _ in range(1000):
            await valid(s, made.token, touch=True, data_keys=["k"])
        row = (await s.tools.store.read("web", made.session.handle)).session
        assert row.revision == 2

    over(store, test)
