"""What one data centre hears of the other: before it serves again, and what it believes. One of them is stopped,
killed, shut out, put back from a backup."""

import contextlib
from hashlib import sha256

import pytest

from libs.paging.paging import PageTokens
from services.session import watching
from services.session.conformance.datacentres import (
    backed_up,
    missed,
    over_the_bound,
    played,
    put_back,
    stopped,
    unreachable,
    until,
    whole,
)
from services.session.conformance.verbs import refused, valid
from services.session.domain import fencing, revoking
from services.session.domain.errors import (
    DatacentreFenced,
    FenceRefused,
    Resynchronising,
    Stale,
)
from services.session.domain.policy import Partition
from wellspring.session.v1 import session_pb2 as pb


async def nothing(*_):
    """What can be read of a feed that has not arrived."""
    return []


def test_ses_10_a_data_centre_put_back_from_a_backup_revives_nothing_and_loses_no_revocation(tmp_path):
    async def test(east, west):
        made = [await site.create(subject) for site in (east, west) for subject in ("alice", "bob", "carol")]
        for one in made:
            await valid(east, one.token)
            await valid(west, one.token)
        backed_up(tmp_path / "backup")
        await whole(east, west)
        for site, one in ((west, made[0]), (west, made[3]), (east, made[1])):
            await revoking.revoke_token(site.tools, site.realm(), "app", one.token)
        await revoking.revoke_subject(west.tools, west.realm(), "app", "bob")
        await east.hears(west)
        await west.hears(east)
        put_back(tmp_path / "backup")
        await whole(east, west)
        restarted = await west.again()
        try:
            await restarted.hears(east)
            ended = [made[at] for at in (0, 1, 3, 4)]
            for one in ended:
                await refused(restarted, one.token)
            # What it revokes from now on is heard, too: its numbers do not begin again.
            await revoking.revoke_token(restarted.tools, restarted.realm(), "app", made[5].token)
            await east.hears(restarted)
            for one in (*ended, made[5]):
                await refused(east, one.token)
            await valid(restarted, made[2].token)
        finally:
            await restarted.store.close()

    played(test)


@pytest.mark.parametrize("policy", [Partition.FAIL_CLOSED, Partition.SERVE_LOCAL])
def test_ses_11_ses_10_what_was_revoked_while_a_data_centre_was_stopped_holds_before_it_serves_again(policy):
    async def test(east, west):
        name = east.realm().name
        logout, gone, stays = [await east.create(subject) for subject in ("alice", "bob", "carol")]
        of_west = await west.create("bob")
        for one in (logout, gone, stays, of_west):
            await valid(east, one.token)
            await valid(west, one.token)
        with stopped("west"):
            await revoking.revoke_token(east.tools, east.realm(), "app", logout.token)
            await revoking.revoke_subject(east.tools, east.realm(), "app", "bob")
            await east._refresher.tick()
            await missed()
        await whole(east, west)
        await over_the_bound(west)
        listening = west.tools.realms.listening
        if policy is Partition.FAIL_CLOSED:
            with pytest.raises(Stale):
                west.entered()
        else:
            west.entered()
            assert not listening.is_heard("east", west.realm().policy.revocation_bound_us, west.tools.clock.now_us())

        # Heard again, and not all is here: whatever the policy, it takes in first what it missed.
        async def is_heard():
            await east.tick()
            await west.tick()
            return listening.is_heard("east", west.realm().policy.revocation_bound_us, west.tools.clock.now_us())

        with unreachable(west, "east"):
            west.store.origins._rows = nothing
            await until(is_heard)
            assert await west.store.origins.position(name, "east") == 0
            with pytest.raises(Stale if policy is Partition.FAIL_CLOSED else Resynchronising):
                west.entered()
            del west.store.origins._rows
        await west.hears(east)
        west.entered()
        for one in (logout, gone, of_west):
            await refused(west, one.token)
        await valid(west, stays.token)
        assert [one.sequence for one in await west.store.origins.revocations(name, "east", 0, 10)][:2] == [1, 2]

    played(test, on_partition=policy)


def test_ses_10_a_subject_revoked_elsewhere_is_refused_by_every_server_that_has_heard_it():
    async def test(east, west):
        made, stays = await west.create("alice"), await west.create("bob")
        other = await west.again()
        try:
            await other.hears(east)
            for one in (west, other):
                await valid(one, made.token)
            # East knows nothing of the session, and ends it by the epoch alone.
            who = made.session.subject
            await east.store.raise_subject_epoch(east.realm().name, who, "east", east.tools.clock.now_us())
            for one in (west, other):
                await one.hears(east)
                await refused(one, made.token)
                await valid(one, stays.token)
        finally:
            await other.store.close()

    played(test)


def test_a_watcher_of_one_data_centre_hears_what_the_other_revoked_and_up_to_when():
    async def test(east, west):
        pages, name = PageTokens([bytes(32)], west.clock), west.realm().name

        async def told(resume):
            request = pb.WatchRevocationsRequest(realm=name, resume_token=resume)
            async with contextlib.aclosing(watching.watch(west.tools, pages, request, "app")) as answers:
                return await anext(answers)

        first = await told("")
        assert {beat.origin: beat.sequence for beat in first.heartbeats} == {"east": 0, "west": 0}
        ended = [await site.create("alice") for site in (east, west)]
        for site, one in zip((east, west), ended, strict=True):
            await revoking.revoke_token(site.tools, site.realm(), "app", one.token)
        await west.hears(east)
        then = await told(first.resume_token)
        hashes = {sha256(one.session.handle.encode()).digest() for one in ended}
        assert {one.handle_hash for one in then.revocations} == hashes
        assert {beat.origin: beat.sequence for beat in then.heartbeats} == {"east": 1, "west": 1}
        assert not (await told(then.resume_token)).revocations

    played(test)


def test_a_data_centre_that_is_shut_out_serves_nothing_and_the_others_go_on_without_it():
    async def test(east, west):
        made = await east.create("alice")
        with stopped("west"):
            await over_the_bound(east)
            await east._refresher.tick()
            with pytest.raises(Stale):
                east.entered()
            await fencing.shut(east.tools, "op", "west", "its power is out")
            east.entered()
            await valid(east, made.token)
            with pytest.raises(FenceRefused):
                await fencing.shut(east.tools, "op", "east", "")
            with pytest.raises(FenceRefused):
                await fencing.shut(east.tools, "op", "north", "")
            await revoking.revoke_token(east.tools, east.realm(), "app", made.token)
            await missed()
        await whole(east, west)
        with pytest.raises(Stale):
            west.entered()
        await west.hears(east)
        with pytest.raises(DatacentreFenced):
            west.entered()
        west.tools.realms.enter(west.realm().name, "app", "Revoke")
        await fencing.open_again(east.tools, "op", "west")
        await west.hears(east)
        await east.hears(west)
        for site in (east, west):
            site.entered()
            await refused(site, made.token)

    played(test)


def test_what_is_no_longer_kept_one_by_one_is_taken_in_whole():
    async def test(east, west):
        name = east.realm().name
        made = [await east.create(subject) for subject in ("alice", "bob")]
        for one in made:
            await valid(west, one.token)
        with stopped("west"):
            await revoking.revoke_token(east.tools, east.realm(), "app", made[0].token)
            await revoking.revoke_subject(east.tools, east.realm(), "app", "bob")
            await missed()
        await whole(east, west)
        east.store._cluster.session._raw.execute(
            "DELETE FROM revocations WHERE realm = %s AND origin = 'east' AND slot = 0", (name,)
        )
        await west.hears(east)
        for one in made:
            await refused(west, one.token)
        assert await west.store.origins.position(name, "east") == 3, "the subject, and the session of each"

    played(test)


def test_a_clock_that_is_ahead_is_told_and_not_believed():
    async def test(east, west):
        ahead_us = west.tools.clock.now_us() + 60_000_000
        await east.store.origins.beat(ahead_us, [east.realm().name])
        await west.tick()
        assert west.events.of("clocks_apart") == [{"realm": "", "handle": "", "caller": "", "datacentre": "east"}]
        await over_the_bound(west)
        await west._refresher.tick()
        with pytest.raises(Stale, match="ahead"):
            west.entered()

    played(test)
