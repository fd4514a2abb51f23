"""Two data centres, one of them stopped now and then: no false no, no revocation lost, no limit without an end."""

import asyncio

import pytest

from libs.errors.errors import InvalidArgument
from services.session.conformance.datacentres import (
    dead,
    missed,
    played,
    stopped,
    whole,
)
from services.session.conformance.verbs import data, refused, rotate, step_up, update, valid
from services.session.domain import cookies, listing, revoking, updating, validating
from services.session.domain.errors import (
    HomeUnreachable,
    SessionInvalid,
    SessionNotFound,
)
from services.session.domain.operations import Operation
from services.session.domain.policy import Limit


def test_ses_12_a_session_made_in_one_data_centre_is_used_and_changed_in_the_other_at_once():
    async def test(east, west):
        for one, other in ((east, west), (west, east)):
            made = await one.create("alice", data={"k": b"v"}, shared={"s": b"1"})
            assert made.session.home == one.name
            assert await data(other, made.token) == {"k": b"v"}
            await update(other, made.token, Operation("k", set=b"w"))
            assert await data(one, made.token) == {"k": b"w"}
            shared = await updating.update_shared(
                other.tools, other.realm(), "app", made.session.handle, [Operation("s", add=1)], other.uuid()
            )
            assert shared.counters == {"s": 2}
            child = await rotate(other, made.token)
            await valid(one, child.token)
            high = await step_up(other, child.token)
            await refused(one, child.token)
            assert (await valid(other, high.token, touch=True)).session.level == 2
            await revoking.revoke_token(other.tools, other.realm(), "app", high.token)
            await refused(other, high.token)
            await one.hears(other)
            await refused(one, high.token)
            assert not (await listing.by_subject(one.tools, one.realm(), "alice", None, 10)).sessions
            visitor = await one.create("")
            bob = await step_up(other, visitor.token, level=1, subject="bob")
            await valid(one, bob.token)

    played(test)


def test_ses_12_who_brings_a_cookie_sees_what_it_was_given_for_or_is_told_that_it_cannot_be():
    async def test(east, west):
        made = await east.create("alice", data={"n": b"0"})
        handle = made.session.handle

        async def seen(site, cookie):
            got = await validating.validate(site.tools, site.realm(), "app", made.token, data_keys=["n"], cookie=cookie)
            return got.data["n"].value

        for turn in range(1, 6):
            one, other = (east, west) if turn % 2 else (west, east)
            updated = await update(one, made.token, Operation("n", set=b"%d" % turn))
            cookie = cookies.cookie(one.tools, handle, updated.revision)
            assert await seen(other, cookie) == b"%d" % turn
            assert await seen(one, cookie) == b"%d" % turn
        with stopped("east"), pytest.raises(HomeUnreachable):
            await seen(west, cookies.cookie(west.tools, handle, updated.revision + 1))
        with pytest.raises(InvalidArgument):
            await seen(west, "none")

    played(test)


def test_ses_12_what_has_not_arrived_is_read_at_home_and_is_unavailable_without_it():
    async def test(east, west):
        async with dead("west"):
            made = [await east.create("alice", data={"k": b"v"}) for _ in range(4)]
        await whole(east, west)
        assert (await west.store.read(west.realm().name, made[0].session.handle)).session is None, "it has not arrived"
        assert await data(west, made[0].token) == {"k": b"v"}
        assert (await validating.find(west.tools, west.realm(), made[0].session.handle)).home == "east"
        child = await rotate(west, made[1].token)
        await valid(west, child.token)
        own = await west.create("bob")
        with stopped("east"):
            await refused(west, made[0].token, HomeUnreachable)
            with pytest.raises(HomeUnreachable):
                await validating.find(west.tools, west.realm(), made[0].session.handle)
            with pytest.raises(HomeUnreachable):
                await rotate(west, made[0].token)
            # What is at home here goes on; of what is not, a logout holds.
            child = await rotate(west, own.token)
            await valid(west, child.token)
            await revoking.revoke_token(west.tools, west.realm(), "app", own.token)
            await refused(west, child.token)
            await revoking.revoke_token(west.tools, west.realm(), "app", made[2].token)
            await revoking.revoke_handle(west.tools, west.realm(), "app", made[3].session.handle)
            await refused(west, made[2].token)
            await missed()
        await whole(east, west)
        await east.hears(west)
        for one in made[2:]:
            await refused(east, one.token)
        await valid(east, made[0].token)
        with pytest.raises(SessionNotFound):
            await validating.find(west.tools, west.realm(), "h" * 43)

    played(test)


def test_ses_05_a_token_of_before_that_comes_back_in_the_other_data_centre_ends_the_family_in_both():
    async def test(east, west):
        grace_s = east.realm().policy.rotation_grace_us / 1e6
        for one, other in ((east, west), (west, east)):
            made = await one.create("alice")
            child = await rotate(one, made.token)
            await valid(other, made.token)
            await one.clock.advance(grace_s + 1)
            await valid(other, child.token)
            with stopped(one.name):
                # What is not good here is asked for at home: nobody is told no, and nothing ends.
                await refused(other, made.token, HomeUnreachable)
                await valid(other, child.token)
            await whole(east, west)
            assert not other.events.of("session_theft")
            await refused(other, made.token)
            assert [theft["handle"] for theft in other.events.of("session_theft")] == [made.session.handle]
            await refused(other, child.token)
            await one.hears(other)
            await refused(one, child.token)

    played(test)


def test_ses_09_revocations_of_all_in_both_data_centres_at_once_do_not_undo_each_other():
    async def test(east, west):
        name = east.realm().name
        made = [await site.create("alice") for site in (east, west) for _ in range(2)]
        with stopped("west"):
            await revoking.revoke_subject(east.tools, east.realm(), "app", "alice")
            await missed()
        with stopped("east"):
            await revoking.revoke_subject(west.tools, west.realm(), "app", "alice")
            await missed()
        await whole(east, west)
        await asyncio.gather(*(revoking.revoke_realm(s.tools, s.realm(), "app") for s in (east, west)))
        await asyncio.gather(*(revoking.revoke_subject(s.tools, s.realm(), "app", "alice") for s in (east, west)))
        for one, other in ((east, west), (west, east)):
            await one.hears(other)
        who = made[0].session.subject
        for site in (east, west):
            assert (await site.store.subject_epoch(name, who)).counters == (("east", 2), ("west", 2))
            assert site.realm().epoch.counters == (("east", 1), ("west", 1))
            for one in made:
                await refused(site, one.token)
            again = await site.create("alice")
            for there in (east, west):
                await valid(there, again.token)

    played(test)


def test_ses_14_a_limit_is_exact_at_home_and_what_the_other_let_in_is_evicted_by_the_next_login():
    async def test(east, west):
        with stopped("west"):
            made = [await east.create("alice") for _ in range(3)]
            await missed()
        await whole(east, west)
        # West has not heard of them: the slack is what one data centre lets in.
        made += await asyncio.gather(*(west.create("alice") for _ in range(2)))
        await west.create("alice")
        live = 0
        for one in made:
            try:
                await valid(east, one.token)
                live += 1
            except SessionInvalid:
                continue
        assert live <= 6
        last = await east.create("alice")
        await west.hears(east)
        await east.hears(west)
        kept = await listing.by_subject(east.tools, east.realm(), "alice", None, 100)
        assert len(kept.sessions) <= 3
        for site in (east, west):
            await valid(site, last.token)

    played(test, max_sessions_per_subject=3, limit=Limit.EVICT_OLDEST)


def test_ses_16_erasing_a_subject_destroys_its_keys_in_every_data_centre_or_says_that_it_did_not():
    async def test(east, west):
        made = [await site.create("alice", data={"k": b"v"}) for site in (east, west)]
        for one in made:
            for site in (east, west):
                assert await data(site, one.token) == {"k": b"v"}
        with stopped("west"):
            with pytest.raises(HomeUnreachable):
                await revoking.erase_subject(east.tools, east.realm(), "app", "alice")
            for one in made:
                await refused(east, one.token)
        await whole(east, west)
        await revoking.erase_subject(east.tools, east.realm(), "app", "alice")
        await west.hears(east)
        who = made[0].session.subject
        for one in made:
            for site in (east, west):
                await refused(site, one.token)
                there = site.store if one.session.home == site.name else site.store.homes.at(one.session.home).subjects
                key = there.subject_key if one.session.home == site.name else there.key
                assert await key(site.realm().name, who) is None

    played(test)
