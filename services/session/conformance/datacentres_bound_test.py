"""Sessions bound to a key of the client, over two data centres: a proof is good once in all of them, and who cannot
look whether it was used lets nobody in."""

import asyncio
import json

import pytest

from services.session.conformance.datacentres import played, stopped, until, whole
from services.session.conformance.proving import bound, proof
from services.session.conformance.verbs import valid
from services.session.crypto.dpop_fakes import ClientKey
from services.session.domain import abilities, revoking, rotating
from services.session.domain.errors import HomeUnreachable, ProofNonceNeeded, ServersOlder, SessionInvalid
from services.session.domain.policy import Kind, Policy
from services.session.domain.proofs import Proof


def again(once):
    """The same proof, copied from a request."""
    return Proof(once.jwt, once.method, once.uri, once.retry)


async def good(site, token, given):
    try:
        await valid(site, token, proof=given)
    except SessionInvalid:
        return False
    return True


def test_ses_24_a_proof_that_was_good_in_one_data_centre_is_good_in_no_other():
    async def test(east, west):
        key = ClientKey()
        for home in (east, west):
            made = await bound(home, key)
            for one, other in ((east, west), (west, east)):
                once = proof(one, key, made.token)
                assert await good(one, made.token, once)
                assert not await good(other, made.token, again(once))
                assert not await good(one, made.token, again(once))
                assert not await good(other, made.token, None)
            for _ in range(5):
                once = proof(east, key, made.token)
                both = await asyncio.gather(*(good(site, made.token, again(once)) for site in (east, west)))
                assert sorted(both) == [False, True], "of several at once one"
            # A request that is sent again elsewhere is the same one.
            rid = home.uuid()
            once = proof(east, key, made.token, retry=f"Rotate app {rid}")
            for site in (east, west):
                child = await rotating.rotate(
                    site.tools, site.realm(), "app", made.token, privilege=False, request_id=rid, proof=again(once)
                )
            assert await good(west, child.token, proof(west, key, child.token))
            assert not await good(west, made.token, Proof(once.jwt, once.method, once.uri))

    played(test)


def test_ses_24_while_its_home_is_away_a_bound_session_is_unavailable_elsewhere_and_its_logout_holds():
    async def test(east, west):
        key = ClientKey()
        made, ended = await bound(east, key), await bound(east, key)
        own = await bound(west, key)
        for one in (made, ended):
            assert await good(west, one.token, proof(west, key, one.token))
        once = proof(west, key, made.token)
        with stopped("east"):
            with pytest.raises(HomeUnreachable):
                await valid(west, made.token, proof=again(once))
            assert not await good(west, made.token, None), "and who has no proof is told no"
            assert await good(west, own.token, proof(west, key, own.token)), "what is at home here goes on"
            assert await revoking.revoke_token(west.tools, west.realm(), "app", ended.token) == 1
        await whole(east, west)
        # It was spent then, or is now: once, and nowhere else.
        await good(west, made.token, again(once))
        assert not await good(east, made.token, again(once))
        assert await good(east, made.token, proof(east, key, made.token))
        await east.hears(west)
        assert not await good(east, ended.token, proof(east, key, ended.token))

    played(test)


def test_ses_24_a_nonce_of_one_data_centre_is_fresh_in_the_others():
    async def test(east, west):
        key = ClientKey()
        made = await bound(east, key)
        with pytest.raises(ProofNonceNeeded) as needed:
            await valid(east, made.token, proof=proof(east, key, made.token))
        nonce = needed.value.metadata["nonce"]
        for site in (west, east):
            once = proof(site, key, made.token, nonce=nonce)
            assert await good(site, made.token, once)
        assert not await good(east, made.token, again(once))

    played(test, proof_nonces=True)


def test_what_a_server_of_an_earlier_release_would_undo_waits_until_it_is_gone():
    async def test(east, west):
        rows = west.store.fellows
        await west.store._cluster.session.run("TRUNCATE servers")
        able = {"keys": {}, "active": [], "abilities": abilities.ALL}
        await rows.say("new", json.dumps(able).encode(), 60)
        await bound(east, ClientKey())
        await rows.say("old", json.dumps({"keys": {}, "active": []}).encode(), 60)

        async def refuses():
            """When the row has arrived."""
            try:
                await bound(east, ClientKey())
            except ServersOlder as told:
                return told.metadata["servers"] == "west/old"
            return False

        await until(refuses)
        with pytest.raises(ServersOlder):
            await east.tools.realms.create("kask", Policy(kind=Kind.OPAQUE))
        await east.create("alice")
        await rows.say("old", json.dumps(able).encode(), 60)
        await bound(west, ClientKey())

    played(test)
