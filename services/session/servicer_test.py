"""The service over the wire: what callers see, and what they must not be able to tell apart."""

import base64
import hashlib
import json
import logging
import uuid

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from services.session.crypto import keyring as keyrings
from services.session.crypto import tokens
from services.session.domain.guesses import GuessLimits
from services.session.domain.model import REVOCATIONS_KEPT_US
from services.session.domain.policy import Caller
from services.session.events import ToldEvents
from services.session.over_the_wire import failure, over_the_wire
from wellspring.session.v1 import session_admin_pb2 as admin_pb
from wellspring.session.v1 import session_pb2 as pb


def test_a_login_over_the_wire():
    async def test(r):
        made = await r.create(data={"cart": b"1"}, shared_data={"flag": b"s"})
        assert made.token.value.startswith(b"wss_web_") and made.session.subject not in ("", "alice")
        got = await r.validate(made.token, touch=True, data_keys=["*"])
        assert got.session == made.session and got.data["cart"].value == b"1" and got.data["cart"].version == 1
        assert got.HasField("staleness") and not got.rotate_hint
        assert await r.sessions.Get(pb.GetRequest(realm="web", handle=made.session.handle)) == made.session
        shared = pb.GetRequest(realm="web", handle=made.session.handle, shared_keys=["*"])
        assert (await r.sessions.Get(shared)).shared_data["flag"].value == b"s"
        update = pb.UpdateDataRequest(token=made.token, realm="web", request_id=str(uuid.uuid4()))
        update.operations.add(key="n", add=3)
        answer = await r.sessions.UpdateData(update)
        assert dict(answer.versions) == {"n": 1} and dict(answer.counters) == {"n": 3}
        assert await r.sessions.UpdateData(update) == answer
        rotated = await r.sessions.Rotate(
            pb.RotateRequest(
                token=made.token, realm="web", reason=pb.RotateRequest.REASON_PERIODIC, request_id=str(uuid.uuid4())
            )
        )
        assert rotated.session.handle == made.session.handle and rotated.HasField("grace_until")
        again = await r.sessions.Reauthenticate(
            pb.ReauthenticateRequest(
                token=rotated.token, realm="web", assurance=pb.Assurance(level=2, methods=["otp"]),
                request_id=str(uuid.uuid4()),
            )
        )  # fmt: skip
        assert again.session.assurance.level == 2 and list(again.session.assurance.methods) == ["otp"]
        second = await r.create()
        listed = await r.sessions.ListBySubject(pb.ListBySubjectRequest(realm="web", subject="alice", page_size=1))
        assert listed.next_page_token and len(listed.sessions) == 1
        rest = await r.sessions.ListBySubject(
            pb.ListBySubjectRequest(realm="web", subject="alice", page_token=listed.next_page_token)
        )
        handles = {s.handle for s in [*listed.sessions, *rest.sessions]}
        assert handles == {made.session.handle, second.session.handle}
        other = pb.ListBySubjectRequest(realm="web", subject="bob", page_token=listed.next_page_token)
        assert (await failure(r.sessions.ListBySubject(other)))[2] == "PAGE_TOKEN_INVALID"
        revoked = await r.sessions.Revoke(pb.RevokeRequest(realm="web", subject="alice"))
        assert revoked.revoked == 2 and revoked.receipts[0].state == pb.RevokeResponse.Enforcement.STATE_ENFORCED
        assert (await failure(r.validate(again.token)))[2] == "SESSION_INVALID"

    over_the_wire(test)


def test_ses_04_ses_21_failures_of_tokens_are_the_same_bytes():
    async def test(r):
        foreign, revoked = await r.create(realm="app"), await r.create()
        await r.sessions.Revoke(pb.RevokeRequest(realm="web", token=revoked.token))
        erased = await r.create("eve")
        await r.sessions.EraseSubject(pb.EraseSubjectRequest(realm="web", subject="eve"))
        _, forged = tokens.mint(keyrings.generate(1), "web", 7, r.s.rng.randbytes)
        _, unknown = tokens.mint(r.s.tools.keyring, "web", 7, r.s.rng.randbytes)
        parsed = tokens.parse((await r.create()).token.value)
        _, guessed = tokens.remint(r.s.tools.keyring, parsed, r.s.rng.randbytes)
        bad = [foreign.token, revoked.token, erased.token, *(pb.Secret(value=t) for t in (forged, unknown, guessed))]

        def calls(token):
            rid = str(uuid.uuid4())
            update = pb.UpdateDataRequest(token=token, realm="web", request_id=rid)
            update.operations.add(key="k", set=b"v")
            yield r.validate(token)
            yield r.validate(token, data_keys=["*"], touch=True, assertion_audience="x")
            yield r.sessions.UpdateData(update)
            yield r.sessions.Rotate(pb.RotateRequest(token=token, realm="web", reason=1, request_id=rid))
            yield r.sessions.Rotate(pb.RotateRequest(token=token, realm="web", reason=2, request_id=rid))
            yield r.sessions.Reauthenticate(
                pb.ReauthenticateRequest(token=token, realm="web", assurance=pb.Assurance(level=1), request_id=rid)
            )
            yield r.sessions.Revoke(pb.RevokeRequest(realm="web", others_of_token=token))
            yield r.sessions.IssueAssertion(pb.IssueAssertionRequest(token=token, realm="web", audience="x"))

        seen = {await failure(call) for token in bad for call in calls(token)}
        assert len(seen) == 1
        ((code, _, reason, _),) = seen
        assert code is grpc.StatusCode.UNAUTHENTICATED and reason == "SESSION_INVALID"
        for token in bad:
            assert (await r.sessions.Revoke(pb.RevokeRequest(realm="web", token=token))).revoked == 0

    over_the_wire(test)


@pytest.mark.parametrize("text", [b"", b"x", b"wss_web_", b"\xff" * 90, b"wss_web_" + b"A" * 43 + b"." + b"A" * 48])
def test_what_is_no_token_is_told_apart_and_not_echoed(text):
    async def test(r):
        code, message, reason, raw = await failure(r.validate(pb.Secret(value=text)))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOKEN_MALFORMED")
        assert len(text) < 9 or (text not in raw and text.decode("latin1") not in message)

    over_the_wire(test)


def test_realms_that_are_absent_or_forbidden_look_the_same():
    async def test(r):
        await r.s.set_policy("app", callers=(Caller("spiffe://x/y", ("*",)),))
        made = await r.create()
        calls = [
            lambda realm: r.create(realm=realm),
            lambda realm: r.validate(made.token, realm=realm),
            lambda realm: r.sessions.Get(pb.GetRequest(realm=realm, handle=made.session.handle)),
            lambda realm: r.sessions.Revoke(pb.RevokeRequest(realm=realm, whole_realm=True)),
            lambda realm: r.sessions.ListBySubject(pb.ListBySubjectRequest(realm=realm, subject="a")),
            lambda realm: r.sessions.EraseSubject(pb.EraseSubjectRequest(realm=realm, subject="a")),
            lambda realm: r.sessions.UpdateShared(pb.UpdateSharedRequest(realm=realm, handle=made.session.handle)),
            lambda realm: r.sessions.Rotate(pb.RotateRequest(realm=realm, token=made.token)),
        ]
        seen = {await failure(call(realm)) for call in calls for realm in ("app", "none", "", "Web", "x" * 500)}
        assert len(seen) == 1 and next(iter(seen))[2] == "REALM_NOT_FOUND"

    over_the_wire(test)


def test_ses_19_a_caller_is_shown_its_data_keys_only():
    async def test(r):
        made = await r.create(data={"seen": b"1", "hidden": b"2"})
        await r.s.set_policy("web", callers=(Caller("anonymous", ("Validate",), ("seen",)),))
        assert list((await r.validate(made.token, data_keys=["*"])).data) == ["seen"]
        refused = await failure(r.validate(made.token, data_keys=["hidden"]))
        assert refused[0] is grpc.StatusCode.PERMISSION_DENIED and refused[2] == "DATA_KEY_DENIED"

    over_the_wire(test)


BAD_CREATES = [
    ({"request_id": ""}, "request_id"),
    ({"request_id": "no uuid"}, "request_id"),
    ({"subject": "x" * 257}, "subject"),
    ({"assurance": pb.Assurance(level=4)}, "assurance.level"),
    ({"assurance": pb.Assurance()}, "assurance.level"),
    ({"assurance": pb.Assurance(level=1, methods=["x"] * 9)}, "assurance.methods"),
    ({"assurance": pb.Assurance(level=1, methods=["x" * 33])}, "assurance.methods[0]"),
    ({"assurance": {"level": 1, "auth_time": {"seconds": 10**11}}}, "assurance.auth_time"),
    ({"assurance": {"level": 1, "auth_time": {"seconds": -5}}}, "assurance.auth_time"),
    ({"subject": ""}, "assurance"),
    ({"data": {"": b"x"}}, "data[key]"),
    ({"data": {"k" * 200: b"x"}}, "data[key]"),
    ({"shared_data": {"*": b"x"}}, "shared_data[key]"),
]


@pytest.mark.parametrize(("change", "field"), BAD_CREATES, ids=lambda v: str(v)[:40] if isinstance(v, str) else "")
def test_bad_requests_name_their_field(change, field):
    async def test(r):
        plain = {"realm": "web", "subject": "a", "assurance": pb.Assurance(level=1), "request_id": str(uuid.uuid4())}
        _, _, _, raw = await failure(r.sessions.Create(pb.CreateRequest(**{**plain, **change})))
        status, wrong = status_pb2.Status.FromString(raw), error_details_pb2.BadRequest()
        status.details[1].Unpack(wrong)
        assert [v.field for v in wrong.field_violations] == [field]

    over_the_wire(test)


def test_an_opaque_realm_has_no_tokens_and_keeps_its_kind():
    async def test(r):
        opaque = admin_pb.Realm(name="wiki", kind=admin_pb.Realm.KIND_OPAQUE)
        opaque.ttl.seconds = 3600
        made = await r.admin.CreateRealm(admin_pb.CreateRealmRequest(realm=opaque))
        assert made.kind == admin_pb.Realm.KIND_OPAQUE and made.ttl.seconds == 3600
        assert await r.admin.GetRealm(admin_pb.GetRealmRequest(name="wiki")) == made
        token = (await r.create()).token
        for call in (
            r.create(realm="wiki"),
            r.validate(token, realm="wiki"),
            r.sessions.Get(pb.GetRequest(realm="wiki", handle="A" * 43)),
            r.sessions.Revoke(pb.RevokeRequest(realm="wiki", subject="alice")),
            r.sessions.EraseSubject(pb.EraseSubjectRequest(realm="wiki", subject="alice")),
        ):
            code, _, reason, _ = await failure(call)
            assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REALM_IS_OPAQUE")
        await r.sessions.Revoke(pb.RevokeRequest(realm="wiki", whole_realm=True))
        minted = admin_pb.Realm(name="wiki", kind=admin_pb.Realm.KIND_MINTED, etag=made.etag)
        code, message, reason, _ = await failure(r.admin.UpdateRealm(admin_pb.UpdateRealmRequest(realm=minted)))
        assert reason == "POLICY_REFUSED" and "realm.kind" in message
        for ttl_s in (400 * 86400, 31 * 86400):
            opaque.name, opaque.ttl.seconds = "long", ttl_s
            code, message, reason, _ = await failure(r.admin.CreateRealm(admin_pb.CreateRealmRequest(realm=opaque)))
            assert reason == "POLICY_REFUSED" and "realm.ttl" in message

    over_the_wire(test)


def test_a_watcher_hears_of_every_revocation_and_goes_on_where_it_was():
    async def test(r):
        def watch(token="", realm="web"):
            return r.sessions.WatchRevocations(pb.WatchRevocationsRequest(realm=realm, resume_token=token))

        early = await r.create("early")
        await r.sessions.Revoke(pb.RevokeRequest(realm="web", token=early.token))
        watcher = watch()
        first = await watcher.read()
        assert not first.revocations and first.heartbeats[0].origin == "local" and first.heartbeats[0].sequence == 1
        made = [await r.create(f"u{n}") for n in range(3)]
        for one in made[:2]:
            await r.sessions.Revoke(pb.RevokeRequest(realm="web", token=one.token))
        await r.sessions.Revoke(pb.RevokeRequest(realm="web", subject="u2"))
        heard, token, number = [], "", 0
        while len(heard) < 2:
            answer = await watcher.read()
            heard += answer.revocations
            token, number = answer.resume_token, answer.heartbeats[0].sequence
            assert number == 1 + len(heard)
        watcher.cancel()
        watcher = watch(token)
        while len(heard) < 4:
            answer = await watcher.read()
            heard += answer.revocations
        handles = [hashlib.sha256(one.session.handle.encode()).digest() for one in made]
        assert [one.handle_hash for one in heard] == [handles[0], handles[1], b"", handles[2]]
        # The subject is told in this caller's own form, the one that its sessions have.
        assert heard[2].subject == made[2].session.subject
        await r.sessions.Revoke(pb.RevokeRequest(realm="web", whole_realm=True))
        while not answer.revocations or not answer.revocations[-1].whole_realm:
            answer = await watcher.read()
        watcher.cancel()
        assert (await failure(watch(token, "app").read()))[2] == "PAGE_TOKEN_INVALID"
        assert (await failure(watch("nonsense").read()))[2] == "PAGE_TOKEN_INVALID"
        assert (await failure(watch(realm="nowhere").read()))[2] == "REALM_NOT_FOUND"

    over_the_wire(test)


def test_a_watcher_that_was_away_too_long_begins_anew():
    async def test(r):
        watcher = r.sessions.WatchRevocations(pb.WatchRevocationsRequest(realm="web"))
        token = (await watcher.read()).resume_token
        watcher.cancel()
        for n in range(3):
            one = await r.create(f"u{n}")
            await r.sessions.Revoke(pb.RevokeRequest(realm="web", token=one.token))
        while await r.s.tools.store.prune(r.s.tools.clock.now_us() + 2 * REVOCATIONS_KEPT_US, 100):
            pass
        again = r.sessions.WatchRevocations(pb.WatchRevocationsRequest(realm="web", resume_token=token))
        code, _, reason, _ = await failure(again.read())
        assert code is grpc.StatusCode.OUT_OF_RANGE and reason == "RESUME_TOKEN_EXPIRED"

    over_the_wire(test)


def test_realms_by_their_administrator():
    async def test(r):
        a = r.admin
        made = await a.CreateRealm(admin_pb.CreateRealmRequest(realm=admin_pb.Realm(name="shop")))
        assert made.max_data_bytes == 65536 and made.etag and len(made.timeouts) == 3
        again = a.CreateRealm(admin_pb.CreateRealmRequest(realm=admin_pb.Realm(name="shop")))
        assert (await failure(again))[2] == "REALM_EXISTS"
        assert await a.GetRealm(admin_pb.GetRealmRequest(name="shop")) == made
        request = admin_pb.UpdateRealmRequest(realm=admin_pb.Realm(name="shop", max_anonymous=5, max_data_keys=3))
        request.update_mask.paths.append("max_anonymous")
        changed = await a.UpdateRealm(request)
        assert (changed.max_anonymous, changed.max_data_keys) == (5, 64) and changed.etag != made.etag
        request.realm.etag = made.etag
        assert (await failure(a.UpdateRealm(request)))[2] == "REALM_CHANGED"
        request.update_mask.paths.append("name")
        assert (await failure(a.UpdateRealm(request)))[0] is grpc.StatusCode.INVALID_ARGUMENT
        long = admin_pb.Realm(name="long")
        long.timeouts.add(level=3, idle={"seconds": 3600}, absolute={"seconds": 86400 * 9})
        refused = await failure(a.CreateRealm(admin_pb.CreateRealmRequest(realm=long)))
        assert refused[2] == "POLICY_REFUSED" and "NIST" in refused[1]
        long.policy_justification = "an air-gapped room"
        await a.CreateRealm(admin_pb.CreateRealmRequest(realm=long))
        page = await a.ListRealms(admin_pb.ListRealmsRequest(page_size=3))
        assert [x.name for x in page.realms] == ["app", "long", "shop"]
        rest = await a.ListRealms(admin_pb.ListRealmsRequest(page_token=page.next_page_token))
        assert [x.name for x in rest.realms] == ["web"]
        session = await r.create(realm="shop")
        usage = await a.GetUsage(admin_pb.GetUsageRequest(realm="shop"))
        assert (usage.sessions, usage.subjects, usage.anonymous_sessions) == (1, 1, 0)
        seen = await a.InspectSession(admin_pb.InspectSessionRequest(realm="shop", handle=session.session.handle))
        assert seen.state == "live"
        await a.DeleteRealm(admin_pb.DeleteRealmRequest(name="shop"))
        assert (await failure(r.validate(session.token, realm="shop")))[2] == "REALM_NOT_FOUND"
        await a.CreateRealm(admin_pb.CreateRealmRequest(realm=admin_pb.Realm(name="shop")))
        assert (await failure(r.validate(session.token, realm="shop")))[2] == "SESSION_INVALID"
        seen = await a.InspectSession(admin_pb.InspectSessionRequest(realm="shop", handle=session.session.handle))
        assert seen.state == "realm_revoked"
        keys = (await a.ListKeys(admin_pb.ListKeysRequest())).keys
        assert {k.purpose for k in keys} >= {"pepper", "keyring", "signing"}

    over_the_wire(test)


def test_ses_20_guesses_are_limited_and_the_bearer_is_served():
    async def test(r):
        made = await r.create()
        reasons = []
        for _ in range(8):
            _, unknown = tokens.mint(r.s.tools.keyring, "web", 7, r.s.rng.randbytes)
            hints = pb.ClientHints(address="192.0.2.7")
            reasons.append((await failure(r.validate(pb.Secret(value=unknown), client_hints=hints)))[2])
            await r.validate(made.token, client_hints=hints)
        assert reasons == ["SESSION_INVALID"] * 5 + ["GUESS_LIMIT"] * 3

    over_the_wire(test, guesses=GuessLimits(per_caller=1000, per_address=5))


def test_ses_26_assertions_are_checked_without_a_call():
    async def test(r):
        made = await r.create()
        got = await r.sessions.IssueAssertion(
            pb.IssueAssertionRequest(token=made.token, realm="web", audience="cart", lifetime={"seconds": 30})
        )
        jwks = json.loads((await r.sessions.GetKeySet(pb.GetKeySetRequest())).jwks_json)
        parts = got.assertion.split(".")
        header, claims, signature = (base64.urlsafe_b64decode(p + "=" * (-len(p) % 4)) for p in parts)
        head, said = json.loads(header), json.loads(claims)
        (jwk,) = (key for key in jwks["keys"] if key["kid"] == head["kid"])
        public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(jwk["x"] + "="))
        public.verify(signature, ".".join(parts[:2]).encode())
        assert head["alg"] == "EdDSA" and said["aud"] == "cart" and 0 < said["exp"] - said["iat"] <= 30
        text = got.assertion + claims.decode()
        assert "alice" not in text and made.session.handle not in text and said["sub"] != made.session.subject
        over = pb.IssueAssertionRequest(token=made.token, realm="web", audience="x", lifetime={"seconds": 61})
        assert (await failure(r.sessions.IssueAssertion(over)))[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert (await r.validate(made.token, assertion_audience="cart")).assertion

    over_the_wire(test)


def test_ses_22_the_reason_of_a_revocation_is_in_the_audit_and_the_tombstone_and_in_no_log(caplog):
    caplog.set_level(logging.DEBUG)
    words = "canary-reason: device lost"

    async def test(r):
        async def revoked(cause, **target):
            made = await r.create()
            target = {name: made.token if value is None else value for name, value in target.items()}
            if "handle" in target:
                target["handle"] = made.session.handle
            await r.sessions.Revoke(pb.RevokeRequest(realm="web", reason=words, **target))
            asked = admin_pb.InspectSessionRequest(realm="web", handle=made.session.handle)
            assert (await r.admin.InspectSession(asked)).cause == (f"{cause}: {words}" if cause else "")

        await revoked("logout", token=None)
        await revoked("handle", handle="")
        await revoked("subject", subject="alice")
        await revoked("", whole_realm=True)
        for what, count in (("session_revoked", 3), ("subject_revoked", 1), ("realm_revoked", 1)):
            assert [facts["said"] for facts in r.s.events.of(what)] == [words] * count
        made = await r.create()
        await r.sessions.Revoke(pb.RevokeRequest(realm="web", token=made.token))
        assert "said" not in r.s.events.of("session_revoked")[-1]
        told = ToldEvents(CollectorRegistry())
        for what, facts in r.s.events.told:
            told.record(what, **facts)

    over_the_wire(test)
    assert any(record.message == "realm_revoked" for record in caplog.records)
    assert not any("canary-reason" in str(vars(record)) for record in caplog.records)
