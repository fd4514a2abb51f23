"""What guards the service, over the wire: keys that rotate, floods and quotas, keys of clients, hints kept of them."""

import asyncio
import os
import time

import grpc

from services.session.crypto import keyring as keyrings
from services.session.crypto import rotation, tokens
from services.session.crypto.dpop_fakes import ClientKey, b64
from services.session.domain.quotas import Limits
from services.session.over_the_wire import failure, over_the_wire
from wellspring.session.v1 import session_admin_pb2 as admin_pb
from wellspring.session.v1 import session_pb2 as pb


def test_a_data_centre_that_is_alone_cannot_be_shut_out_and_is_in():
    async def test(r):
        own = r.s.tools.datacentre
        for call, why in (
            (r.admin.FenceDatacentre(admin_pb.FenceDatacentreRequest(datacentre=own)), "the last one that serves"),
            (r.admin.FenceDatacentre(admin_pb.FenceDatacentreRequest(datacentre="x")), "there is no data centre 'x'"),
            (r.admin.UnfenceDatacentre(admin_pb.UnfenceDatacentreRequest(datacentre="x")), "keep sessions are " + own),
        ):
            code, message, reason, _ = await failure(call)
            assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FENCE_REFUSED")
            assert why in message
        await r.admin.UnfenceDatacentre(admin_pb.UnfenceDatacentreRequest(datacentre=own))
        await r.validate((await r.create()).token)
        code, _, _, _ = await failure(r.admin.FenceDatacentre(admin_pb.FenceDatacentreRequest(datacentre="X 1")))
        assert code is grpc.StatusCode.INVALID_ARGUMENT

    over_the_wire(test)


def test_keys_are_rotated_over_the_wire_and_what_cannot_be_is_said():
    async def test(r):
        made = await r.create(data={"n": b"1"})
        rotation.change(r.keyring, lambda ring: rotation.added(ring, "seal", 9)[0])
        listed = {key.key_id: key for key in (await r.admin.ListKeys(admin_pb.ListKeysRequest())).keys}
        assert listed["seal-2"].state == admin_pb.Key.STATE_NEXT and listed["seal-2"].purpose == "keyring"
        key = await r.admin.PromoteKey(admin_pb.PromoteKeyRequest(key_id="seal-2"))
        assert key.state == admin_pb.Key.STATE_ACTIVE
        for key_id, code, reason in (
            ("seal-2", grpc.StatusCode.FAILED_PRECONDITION, "KEY_STATE_WRONG"),
            ("seal-9", grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND"),
            ("Seal 9", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        ):
            got = await failure(r.admin.RetireKey(admin_pb.RetireKeyRequest(key_id=key_id)))
            assert (got[0], got[2]) == (code, reason)
        key = await r.admin.RetireKey(admin_pb.RetireKeyRequest(key_id="seal-1"))
        assert (key.state, key.remaining) == (admin_pb.Key.STATE_RETIRED, 0)
        listed = {key.key_id: key.state for key in (await r.admin.ListKeys(admin_pb.ListKeysRequest())).keys}
        assert listed["seal-1"] == admin_pb.Key.STATE_RETIRED
        assert "seal-1" not in {key.key_id for key in keyrings.load(r.keyring).everything()}
        assert (await r.validate(made.token, data_keys=["n"])).data["n"].value == b"1"
        r.keyring.write_text("{}")
        code, message, reason, _ = await failure(r.admin.PromoteKey(admin_pb.PromoteKeyRequest(key_id="seal-2")))
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "KEYRING_UNUSABLE") and "damaged" in message

    over_the_wire(test)


def test_ses_33_a_flood_of_anonymous_logins_is_refused_and_those_of_subjects_are_not():
    async def test(r):
        async def visitor():
            return await r.create("", client_hints=pb.ClientHints(address="192.0.2.1"))

        flood = await asyncio.gather(*(visitor() for _ in range(60)), return_exceptions=True)
        refused = [error for error in flood if isinstance(error, grpc.aio.AioRpcError)]
        assert len(refused) == 40
        assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        code, _, reason, _ = await failure(visitor())
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ANONYMOUS_QUOTA")
        made = await asyncio.gather(*(r.create(f"u{n}") for n in range(60)))
        for one in made:
            await r.validate(one.token)
        told = r.s.events.of("anonymous_quota")
        assert 1 <= len(told) < 20 and sum(facts["refused"] for facts in told) <= 61
        assert "192.0.2.1" not in str(r.s.events.told)

    over_the_wire(test, quotas=Limits(anonymous=10_000, anonymous_per_address=20, anonymous_in_flight=1000))


def test_a_caller_has_its_own_quota_on_every_verb():
    async def test(r):
        made = await r.create()
        for call in (
            r.validate(made.token),
            r.sessions.Get(pb.GetRequest(realm="web", handle=made.session.handle)),
            r.sessions.Revoke(pb.RevokeRequest(realm="web", token=made.token)),
        ):
            code, _, reason, _ = await failure(call)
            assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_QUOTA")

    over_the_wire(test, quotas=Limits(per_caller=1))


def test_ses_24_a_bound_session_over_the_wire():
    async def test(r):
        key = ClientKey()
        await asyncio.sleep(1.1)  # a proof must be younger than the process, in whole seconds
        made = await r.create(bind_key_thumbprint=b64(key.thumbprint))
        assert made.session.bound and not (await r.create()).session.bound
        code, message, reason, details = await failure(r.validate(made.token))
        missing = await failure(r.validate(pb.Secret(value=tokens.mint(r.s.tools.keyring, "web", 7, os.urandom)[1])))
        assert (code, message, reason, details) == missing, "no word of what was wrong"
        jwt = key.proof(made.token.value, time.time())
        proof = pb.Proof(jwt=jwt, http_method="GET", http_uri="https://app.example/page")
        assert (await r.validate(made.token, proof=proof)).session.bound
        assert (await failure(r.validate(made.token, proof=proof)))[2] == "SESSION_INVALID"
        for wrong, field in (
            (pb.Proof(jwt="x", http_method="GET", http_uri="u"), "proof.jwt"),
            (pb.Proof(jwt="a.b.c", http_method="GET", http_uri="u"), "proof.jwt"),
            (pb.Proof(jwt=jwt, http_uri="u"), "proof.http_method"),
            (pb.Proof(jwt=jwt, http_method="GET"), "proof.http_uri"),
        ):
            code, message, _, _ = await failure(r.validate(made.token, proof=wrong))
            assert code is grpc.StatusCode.INVALID_ARGUMENT and message.startswith(field) and jwt not in message
        for text in ("x", "=" * 43):
            code, message, _, _ = await failure(r.create(bind_key_thumbprint=text))
            assert code is grpc.StatusCode.INVALID_ARGUMENT and message.startswith("bind_key_thumbprint")

    over_the_wire(test)


def test_ses_23_hints_are_shown_where_a_person_looks():
    async def test(r):
        await r.s.set_policy(keep_hints=True)
        told = pb.ClientHints(address="203.0.113.7", user_agent="Mozilla/5.0 (X11; Linux) Firefox/140.0")
        made = await r.create(client_hints=told)
        expected = {"network": "203.0.113.0/24", "agent": "Firefox on Linux"}
        got = await r.sessions.Get(pb.GetRequest(realm="web", handle=made.session.handle))
        assert dict(got.hints) == expected
        listed = await r.sessions.ListBySubject(pb.ListBySubjectRequest(realm="web", subject="alice"))
        assert [dict(one.hints) for one in listed.sessions] == [expected]
        request = admin_pb.InspectSessionRequest(realm="web", handle=made.session.handle)
        assert dict((await r.admin.InspectSession(request)).session.hints) == expected
        assert not (await r.validate(made.token)).session.hints
        code, message, _, _ = await failure(r.create(client_hints=pb.ClientHints(user_agent="x" * 2000)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT and "client_hints.user_agent" in message

    over_the_wire(test)
