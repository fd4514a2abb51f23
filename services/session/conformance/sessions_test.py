"""What sessions are, over every store: the life of one, its tokens, and one answer for whatever is not valid."""

import pytest

from services.session.conformance.harness import STORES, over
from services.session.conformance.verbs import data, refused, rotate, step_up, valid
from services.session.domain import listing, revoking, validating
from services.session.domain.errors import (
    RequestReused,
    SessionInvalid,
    SessionNotFound,
    SubjectDiffers,
    TokenMalformed,
)

pytestmark = pytest.mark.parametrize("store", STORES)


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


def test_ses_02_what_was_never_minted_creates_nothing(store):
    async def test(s):
        made = await s.create()
        other = await s.create()
        swapped = made.token.split(b".")[0] + b"." + other.token.split(b".")[1]
        await refused(s, swapped, TokenMalformed)
        for text in (b"", b"wss_web_x.y", b"x" * 500, b"\xff\x00"):
            await refused(s, text, TokenMalformed)
        assert (await s.tools.store.usage("web")).sessions == 2

    over(store, test)


def test_ses_31_a_realms_token_is_nothing_in_another(store):
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


def test_ses_21_one_answer_for_whatever_is_not_valid(store):
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


def test_ses_05_the_old_token_has_a_grace_and_then_ends_the_family(store):
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


def test_ses_05_two_rotations_at_once_are_both_usable_until_one_goes_on(store):
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


def test_ses_05_an_old_token_long_after_is_still_noticed(store):
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


def test_ses_09_a_logout_with_a_token_that_was_replaced_ends_the_session(store):
    async def test(s):
        for privilege in (False, True):
            made = await s.create(data={"k": b"v"})
            child = await rotate(s, made.token, privilege=privilege)
            if privilege:
                await refused(s, made.token)
                await valid(s, child.token)
            assert await revoking.revoke_token(s.tools, s.realm(), "app", made.token) == 1
            await refused(s, child.token)
            assert await revoking.revoke_token(s.tools, s.realm(), "app", made.token) == 0
        assert not s.events.of("session_theft")

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
