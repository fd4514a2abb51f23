"""The service as applications see it through the SDK: what their verifiers remember, and what a revocation makes of it
(SES-11); assertions checked offline (SES-26); over a server that stops and starts.
"""

import asyncio
import contextlib

import pytest

import wellspring_client
from libs.clock.clock import SystemClock
from libs.paging.paging import PageTokens
from libs.rpc.options import ServerOptions
from libs.rpc.policy import Policy
from libs.rpc.server import Server
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.telemetry import Telemetry
from services.session.conformance.harness import opened, service
from services.session.domain.guesses import Guesses, GuessLimits
from services.session.domain.quotas import Limits, Quotas
from services.session.servicer import SessionsServicer
from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.assertions import Assertions
from wellspring_client.errors import AssertionInvalid, SessionInvalid, Unavailable
from wellspring_client.key_set import KeySet
from wellspring_client.verifier import Verifier

PATIENCE_S = 60


@contextlib.asynccontextmanager
async def serving(tools, listen="127.0.0.1:0"):
    """The address of a server over the store."""
    clock = SystemClock()
    server = Server(
        ServerOptions(service="session", listen=[listen], drain_wait_s=0), Telemetry(TelemetryOptions(), "session")
    )
    sessions = SessionsServicer(
        tools,
        PageTokens([bytes(32)], clock),
        Guesses(GuessLimits(), clock.monotonic, bytes),
        Quotas(Limits(), clock.monotonic, bytes),
        failure_floor_s=0.0,
        gone_after_us=86_400_000_000,
    )
    server.add_service(pb.DESCRIPTOR.services_by_name["Sessions"], sessions, {"WatchRevocations": Policy(endless=True)})
    async with server:
        yield server.addresses[0]


def over_the_wire(test):
    async def main():
        async with opened("embedded") as store:
            s = await service(store, clock=SystemClock())
            await test(s.tools)

    asyncio.run(main())


async def until(condition):
    """Waits until the call says so; fails when it never does."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


async def outcome(call):
    try:
        await call
    except (SessionInvalid, AssertionInvalid):
        return "invalid"
    except Unavailable:
        return "unavailable"
    return "good"


def when(expected, call):
    async def seen():
        return await outcome(call()) == expected

    return until(seen)


def test_ses_11_each_way_to_revoke_reaches_a_verifier():
    async def test(tools):
        async with serving(tools) as address, wellspring_client.aio.connect(session=address) as client:
            realm = client.session.realm("web")
            # So long a bound that what is remembered would outlive the test: it is the feed that ends it.
            async with Verifier(realm, bound_s=300) as verifier:
                await until(lambda: asyncio.sleep(0, verifier.fresh))
                ways = [
                    lambda m: realm.revoke(m.token),
                    lambda m: realm.revoke(handle=m.session.handle),
                    lambda m: realm.revoke(subject="alice"),
                    lambda m: realm.erase_subject("alice"),
                    lambda m: realm.revoke(whole_realm=True),
                ]
                for revoke in ways:
                    other, mine = await realm.create("bob"), await realm.create("alice")
                    for minted in (mine, other):
                        found = await verifier.token(minted.token.value)
                        assert found.session == minted.session and found.level == 1
                    assert verifier.entries >= 2
                    await revoke(mine)
                    await when("invalid", lambda m=mine: verifier.token(m.token.value))
                    left = "invalid" if revoke is ways[-1] else "good"
                    assert await outcome(verifier.token(other.token.value)) == left

    over_the_wire(test)


def test_ses_11_a_server_that_stops_is_unavailable_after_the_bound_and_its_feed_resumes():
    async def test(tools):
        async with contextlib.AsyncExitStack() as stack:
            async with serving(tools) as address:
                client = await stack.enter_async_context(wellspring_client.aio.connect(session=address))
                realm = client.session.realm("web")
                verifier = await stack.enter_async_context(Verifier(realm, bound_s=5))
                await until(lambda: asyncio.sleep(0, verifier.fresh))
                one, two = await realm.create("alice"), await realm.create("bob")
                await verifier.token(one.token.value)
                await verifier.token(two.token.value)
            await when("unavailable", lambda: verifier.token(one.token.value))
            assert not verifier.fresh and await outcome(verifier.token(two.token.value)) == "unavailable"
            async with serving(tools, address), wellspring_client.aio.connect(session=address) as other:
                await other.session.realm("web").revoke(one.token)
                await until(lambda: asyncio.sleep(0, verifier.fresh))
                assert await outcome(verifier.token(one.token.value)) == "invalid"
                assert await outcome(verifier.token(two.token.value)) == "good"

    over_the_wire(test)


def test_ses_26_assertions_of_the_service_hold_offline_and_end_with_their_session():
    async def test(tools):
        async with serving(tools) as address, wellspring_client.aio.connect(session=address) as client:
            realm, keys = client.session.realm("web"), KeySet(client.session.published_keys)
            minted, nobody = await realm.create("alice", level=2, methods=["pwd", "otp"]), await realm.create()

            async def assertion(token, audience="cart"):
                return (await realm.validate(token, assertion_audience=audience)).assertion

            checked = Assertions(keys, audience="cart", realm="web")
            claims = await checked.verify(await assertion(minted.token))
            assert (claims.level, claims.methods, claims.issuer) == (2, ("pwd", "otp"), "wellspring-session/local")
            assert claims.subject and claims.subject != minted.session.subject
            assert (await checked.verify(await assertion(nobody.token))).subject == ""
            with pytest.raises(AssertionInvalid, match="audience"):
                await checked.verify(await assertion(minted.token, "shop"))
            async with Verifier(realm, bound_s=5, assertions=checked) as verifier:
                given = []

                async def known():
                    given[:] = [await assertion(minted.token), await assertion(nobody.token)]
                    return await outcome(verifier.check(given[0])) == "good"

                await until(known)
                found = await verifier.check(given[0])
                assert found.subject == claims.subject and found.session is None and not found.anonymous
                assert (await verifier.check(given[1])).anonymous
                assert (await verifier.check(minted.token.value)).handle_hash == found.handle_hash
                await realm.revoke(minted.token)
                await when("invalid", lambda: verifier.check(given[0]))
                assert await outcome(verifier.check(given[1])) == "good"

    over_the_wire(test)
