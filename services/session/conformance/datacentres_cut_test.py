"""The link between two data centres is cut; both are well, and serve those who come to them. What is revoked meanwhile
is answered at once, by a receipt that is true, and is refused everywhere when the link is there again."""

import contextlib

import pytest

from libs.paging.paging import PageTokens
from services.session.conformance.datacentres import cut, missed, over_the_bound, played, whole
from services.session.conformance.verbs import refused, valid
from services.session.domain.errors import HomeUnreachable, Stale
from services.session.domain.guesses import Guesses, GuessLimits
from services.session.domain.policy import Partition
from services.session.domain.quotas import Limits, Quotas
from services.session.servicer import SessionsServicer
from wellspring.session.v1 import session_pb2 as pb

STATES = pb.RevokeResponse.Enforcement
POLICIES = pytest.mark.parametrize("policy", [Partition.FAIL_CLOSED, Partition.SERVE_LOCAL])


class By:
    """Whoever calls."""

    identity = "app"


async def revoke(site, **target):
    """The receipts, by data centre."""
    clock = site.clock
    servicer = SessionsServicer(
        site.tools,
        PageTokens([bytes(32)], clock),
        Guesses(GuessLimits(), clock.monotonic, bytes),
        Quotas(Limits(), clock.monotonic, bytes),
        failure_floor_s=0.0,
        gone_after_us=1,
    )
    answer = await servicer.Revoke(pb.RevokeRequest(realm=site.realm().name, **target), By())
    return {receipt.datacentre: receipt for receipt in answer.receipts}


def check_receipts(site, other, receipts, policy):
    """Enforced here; there by the bound, where it refuses who does not hear; else nothing is said of when."""
    now_us, bound_us = site.tools.clock.now_us(), site.realm().policy.revocation_bound_us
    assert receipts[site.name].state == STATES.STATE_ENFORCED
    there = receipts[other.name]
    if policy is Partition.FAIL_CLOSED:
        assert there.state == STATES.STATE_PENDING
        assert 0 < there.enforced_by.ToMicroseconds() - now_us <= bound_us + 2_000_000
    else:
        assert not there.HasField("enforced_by")
        heard = site.tools.realms.listening.is_heard(other.name, bound_us, now_us)
        assert there.state == (STATES.STATE_PENDING if heard else STATES.STATE_UNREACHABLE)


async def both(sites):
    """What each of them says and hears, as far as anything comes through."""
    for site in sites:
        await site.tick()


@POLICIES
def test_ses_09_ses_10_ses_11_revocations_while_the_link_is_cut_are_true_at_once_and_everywhere_afterwards(policy):
    async def test(east, west):
        sites = east, west
        logout = [await site.create("alice") for site in sites]
        gone = [await site.create("bob") for site in sites]
        stays = [await site.create("carol") for site in sites]
        for one in (*logout, *gone, *stays):
            for site in sites:
                await valid(site, one.token)
        with cut():
            for site, other, mine, theirs in ((east, west, logout[0], gone[1]), (west, east, logout[1], gone[0])):
                # Each is well by itself.
                await valid(site, (await site.create("dora")).token)
                receipts = await revoke(site, token=pb.Secret(value=mine.token))
                check_receipts(site, other, receipts, policy)
                # What has its home beyond the cut is ended here all the same, and with it all of its subject.
                check_receipts(site, other, await revoke(site, handle=theirs.session.handle), policy)
                check_receipts(site, other, await revoke(site, subject="bob"), policy)
                await refused(site, mine.token)
                await refused(site, theirs.token)
                await refused(site, gone[sites.index(site)].token)
            # Nothing came through: what the other one ended is not refused here, for the bound.
            for site, theirs in ((east, logout[1]), (west, logout[0])):
                with contextlib.suppress(HomeUnreachable):
                    await valid(site, theirs.token)
            await missed()
            await over_the_bound(east)
            await both(sites)
            for site, other in (sites, sites[::-1]):
                receipts = await revoke(site, subject="nobody")
                check_receipts(site, other, receipts, policy)
                if policy is Partition.FAIL_CLOSED:
                    with pytest.raises(Stale):
                        site.entered()
                else:
                    assert receipts[other.name].state == STATES.STATE_UNREACHABLE
                    site.entered()
                    await valid(site, stays[sites.index(site)].token)
        await whole(east, west)
        for site, other in (sites, sites[::-1]):
            await site.hears(other)
        for site in sites:
            site.entered()
            for one in (*logout, *gone):
                await refused(site, one.token)
            for one in stays:
                await valid(site, one.token)

    played(test, on_partition=policy)


@POLICIES
def test_ses_09_all_of_a_realm_revoked_in_both_while_the_link_is_cut_is_revoked_once_for_each(policy):
    async def test(east, west):
        sites = east, west
        before = [await site.create("alice") for site in sites]
        with cut():
            between = []
            for site in sites:
                receipts = await revoke(site, whole_realm=True)
                assert receipts[site.name].state == STATES.STATE_PENDING, "other servers hear of it within the bound"
                await site.clock.advance(2)
                between.append(await site.create("bob"))
                await refused(site, before[sites.index(site)].token)
            await missed()
        await whole(east, west)
        for site, other in (sites, sites[::-1]):
            await site.hears(other)
        for site in sites:
            assert site.realm().epoch.counters == (("east", 1), ("west", 1)), "neither undoes the other's"
            # Those who came after the one and did not know of the other are over with it.
            for one in (*before, *between):
                await refused(site, one.token)
        await valid(west, (await east.create("carol")).token)

    played(test, on_partition=policy)
