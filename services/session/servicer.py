"""The data plane: each RPC is its realm entered, its request read, the domain asked, the answer written."""

from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration

from libs.errors.errors import InvalidArgument
from libs.paging.paging import PageTokens
from libs.rpc.call import Call
from services.session import answers, requests, watching
from services.session.crypto import assertions
from services.session.domain import cookies, creating, hints, listing, revoking, rotating, updating, validating
from services.session.domain.asserting import LONGEST_S, claims
from services.session.domain.errors import AnonymousQuota, GuessLimit, RealmIsOpaque, SessionInvalid
from services.session.domain.guesses import Guesses
from services.session.domain.model import Session
from services.session.domain.origins import MAX_AHEAD_US
from services.session.domain.policy import Kind, Partition
from services.session.domain.quotas import Quotas
from services.session.domain.realms import Realm
from services.session.domain.tools import Tools
from services.session.warm import Warm
from wellspring.session.v1 import session_pb2 as pb

_Result = TypeVar("_Result")
_KEY_SET_AGE_S = 300


class SessionsServicer:
    """``wellspring.session.v1.Sessions``.

    ``failure_floor_s``: no failure of a token is answered sooner. ``gone_after_us``: how long after its end something
    may still lie on the disk. ``warm_sessions``: so many answers of Validate are kept (see `warm`).
    """

    def __init__(
        self,
        tools: Tools,
        pages: PageTokens,
        guesses: Guesses,
        quotas: Quotas,
        *,
        failure_floor_s: float,
        gone_after_us: int,
        warm_sessions: int = 0,
    ) -> None:
        self._tools = tools
        self._pages = pages
        self._guesses = guesses
        self._quotas = quotas
        self._floor_s = failure_floor_s
        self._gone_after_us = gone_after_us
        self._warm = Warm(tools, warm_sessions, tools.random)

    async def Create(self, request: pb.CreateRequest, call: Call) -> pb.CreateResponse:
        realm = self._enter(request.realm, call, "Create")
        subject = requests.subject(request.subject, required=False)
        work = creating.create(
            self._tools,
            realm,
            call.identity,
            subject,
            requests.assurance(request.assurance, anonymous=not subject),
            requests.values(request.data, "data"),
            requests.values(request.shared_data, "shared_data"),
            requests.request_id(request.request_id),
            requests.client(request.client_hints, request.bind_key_thumbprint),
        )
        if subject:
            minted = await work
        else:
            minted = await self._held_apart(realm, call, work, request.client_hints.address)
        return pb.CreateResponse(
            token=pb.Secret(value=minted.token),
            session=self._public(realm, call, minted.session),
            cookie=self._cookie(minted.session),
        )

    async def Validate(self, request: pb.ValidateRequest, call: Call) -> pb.ValidateResponse:
        realm = self._enter(request.realm, call, "Validate")
        audience, text = request.assertion_audience, request.token.value
        if audience:
            requests.audience(audience, "assertion_audience")
        plain = not audience and not request.data_keys and not request.HasField("proof") and not request.cookie
        if plain:
            known = await self._warm.find(realm, call.identity, text, touch=request.touch)
            if known is not None:
                if self._tools.shared:
                    known.staleness.FromMicroseconds(self._staleness_us(realm))
                return known
        work = validating.validate(
            self._tools,
            realm,
            call.identity,
            text,
            touch=request.touch,
            data_keys=requests.wanted_keys(request.data_keys, "data_keys") if request.data_keys else (),
            proof=requests.proof(request.proof, request.HasField("proof")),
            hot=not audience,
            cookie=request.cookie,
        )
        validated = await self._guarded(realm, call, work, request.client_hints.address)
        answer = pb.ValidateResponse(
            session=self._public(realm, call, validated.session), rotate_hint=validated.rotate_hint
        )
        answer.staleness.FromMicroseconds(self._staleness_us(realm))
        answers.put_values(answer.data, validated.data)
        if audience:
            answer.assertion = self._assert(realm, validated.session, audience, LONGEST_S)[0]
        if plain:
            await self._warm.keep(realm, call.identity, text, validated, answer)
        return answer

    async def Get(self, request: pb.GetRequest, call: Call) -> pb.Session:
        realm = self._enter(request.realm, call, "Get")
        handle = requests.handle(request.handle)
        if not request.shared_keys:
            return await self._shown(realm, call, await validating.find(self._tools, realm, handle))
        names = requests.wanted_keys(request.shared_keys, "shared_keys")
        session, values = await validating.shared_values(self._tools, realm, call.identity, handle, names)
        answer = await self._shown(realm, call, session)
        answers.put_values(answer.shared_data, values)
        return answer

    async def UpdateData(self, request: pb.UpdateDataRequest, call: Call) -> pb.UpdateDataResponse:
        realm = self._enter(request.realm, call, "UpdateData")
        operations = requests.operations(request.operations)
        request_id = requests.request_id(request.request_id)
        proof = requests.proof(request.proof, request.HasField("proof"), f"UpdateData {call.identity} {request_id}")
        text = request.token.value
        work = updating.update_data(self._tools, realm, call.identity, text, operations, request_id, proof)
        updated = await self._guarded(realm, call, work)
        cookie = cookies.cookie(self._tools, updated.handle, updated.revision)
        return pb.UpdateDataResponse(versions=updated.versions, counters=updated.counters, cookie=cookie)

    async def UpdateShared(self, request: pb.UpdateSharedRequest, call: Call) -> pb.UpdateSharedResponse:
        realm = self._enter(request.realm, call, "UpdateShared")
        updated = await updating.update_shared(
            self._tools,
            realm,
            call.identity,
            requests.handle(request.handle),
            requests.operations(request.operations),
            requests.request_id(request.request_id),
        )
        cookie = cookies.cookie(self._tools, updated.handle, updated.revision)
        return pb.UpdateSharedResponse(versions=updated.versions, counters=updated.counters, cookie=cookie)

    async def Rotate(self, request: pb.RotateRequest, call: Call) -> pb.RotateResponse:
        realm = self._enter(request.realm, call, "Rotate")
        reasons = pb.RotateRequest
        if request.reason not in (reasons.REASON_PERIODIC, reasons.REASON_PRIVILEGE):
            raise InvalidArgument.field("reason", "REASON_PERIODIC or REASON_PRIVILEGE is expected")
        request_id = requests.request_id(request.request_id)
        work = rotating.rotate(
            self._tools,
            realm,
            call.identity,
            request.token.value,
            privilege=request.reason == reasons.REASON_PRIVILEGE,
            request_id=request_id,
            proof=requests.proof(request.proof, request.HasField("proof"), f"Rotate {call.identity} {request_id}"),
        )
        minted = await self._guarded(realm, call, work)
        answer = pb.RotateResponse(
            token=pb.Secret(value=minted.token),
            session=self._public(realm, call, minted.session),
            cookie=self._cookie(minted.session),
        )
        if minted.grace_us:
            answer.grace_until.CopyFrom(answers.time(minted.grace_us))
        return answer

    async def Reauthenticate(self, request: pb.ReauthenticateRequest, call: Call) -> pb.ReauthenticateResponse:
        realm = self._enter(request.realm, call, "Reauthenticate")
        request_id = requests.request_id(request.request_id)
        retry = f"Reauthenticate {call.identity} {request_id}"
        work = rotating.reauthenticate(
            self._tools,
            realm,
            call.identity,
            request.token.value,
            requests.assurance(request.assurance),
            requests.subject(request.subject, required=False),
            request_id,
            requests.proof(request.proof, request.HasField("proof"), retry),
        )
        minted = await self._guarded(realm, call, work)
        return pb.ReauthenticateResponse(
            token=pb.Secret(value=minted.token),
            session=self._public(realm, call, minted.session),
            cookie=self._cookie(minted.session),
        )

    async def Revoke(self, request: pb.RevokeRequest, call: Call) -> pb.RevokeResponse:
        self._quotas.called(call.identity)
        realm = self._tools.realms.enter(request.realm, call.identity, "Revoke")
        said = requests.reason(request.reason)
        if realm.policy.kind is Kind.OPAQUE and request.WhichOneof("target") != "whole_realm":
            raise RealmIsOpaque
        count = await self._revoke(realm, request, call, said)
        return pb.RevokeResponse(
            receipts=self._receipts(realm, request.WhichOneof("target") == "whole_realm"), revoked=count
        )

    def _receipts(self, realm: Realm, whole: bool) -> list[pb.RevokeResponse.Enforcement]:
        """What is true when the revocation is durable here: of each data centre, from when on nothing that it ended is
        served there."""
        now_us, bound_us = self._tools.clock.now_us(), realm.policy.revocation_bound_us
        # Other servers of this data centre hear of a whole realm within its bound, or refuse it; of the rest at once,
        # unless the cache that they share could not be told.
        late_us = self._tools.hot.late_us(realm) if self._tools.hot is not None else 0
        if self._tools.shared and whole:
            late_us = bound_us
        states = pb.RevokeResponse.Enforcement
        own = states(
            datacentre=self._tools.datacentre,
            state=states.STATE_PENDING if late_us else states.STATE_ENFORCED,
            enforced_by=answers.time(now_us + late_us),
        )
        receipts, listening = [own], self._tools.realms.listening
        for name in listening.others:
            closed = realm.policy.on_partition is Partition.FAIL_CLOSED
            heard = listening.is_heard(name, bound_us, now_us)
            state = states.STATE_PENDING if closed or heard else states.STATE_UNREACHABLE
            receipt = states(datacentre=name, state=state)
            if closed:
                receipt.enforced_by.CopyFrom(answers.time(now_us + bound_us + MAX_AHEAD_US))
            receipts.append(receipt)
        return receipts

    async def _revoke(self, realm: Realm, request: pb.RevokeRequest, call: Call, said: str) -> int:
        tools, caller, target = self._tools, call.identity, request.WhichOneof("target")
        if target == "token":
            return await revoking.revoke_token(tools, realm, caller, request.token.value, said)
        if target == "handle":
            return await revoking.revoke_handle(tools, realm, caller, requests.handle(request.handle), said)
        if target == "others_of_token":
            proof = requests.proof(request.proof, request.HasField("proof"))
            work = revoking.revoke_others(tools, realm, caller, request.others_of_token.value, proof, said)
            return await self._guarded(realm, call, work)
        if target == "subject":
            subject = requests.subject(request.subject, required=True)
            return await revoking.revoke_subject(tools, realm, caller, subject, said)
        if target == "whole_realm" and request.whole_realm:
            await revoking.revoke_realm(tools, realm, caller, said)
            return 0
        what = "one of token, handle, others_of_token, subject, whole_realm (true) is expected"
        raise InvalidArgument.field("target", what)

    async def ListBySubject(self, request: pb.ListBySubjectRequest, call: Call) -> pb.ListBySubjectResponse:
        realm = self._enter(request.realm, call, "ListBySubject")
        subject = requests.subject(request.subject, required=True)
        size = requests.page_size(request.page_size)
        identity = (request.realm, call.identity, subject)
        after = self._pages.open(request.page_token, method="ListBySubject", identity=identity)
        listed = await listing.by_subject(self._tools, realm, subject, after, size)
        token = ""
        if listed.resume is not None:
            token = self._pages.issue(listed.resume, method="ListBySubject", identity=identity)
        sessions = [await self._shown(realm, call, session) for session in listed.sessions]
        return pb.ListBySubjectResponse(sessions=sessions, next_page_token=token)

    async def EraseSubject(self, request: pb.EraseSubjectRequest, call: Call) -> pb.EraseSubjectResponse:
        realm = self._enter(request.realm, call, "EraseSubject")
        subject = requests.subject(request.subject, required=True)
        erased = await revoking.erase_subject(self._tools, realm, call.identity, subject)
        return pb.EraseSubjectResponse(
            receipt_id=erased.receipt.hex(),
            sessions=erased.sessions,
            erase_time=answers.time(erased.at_us),
            gone_by=answers.time(erased.at_us + self._gone_after_us),
        )

    async def IssueAssertion(self, request: pb.IssueAssertionRequest, call: Call) -> pb.IssueAssertionResponse:
        realm = self._enter(request.realm, call, "IssueAssertion")
        audience = requests.audience(request.audience, "audience")
        lifetime_s = request.lifetime.seconds if request.HasField("lifetime") else LONGEST_S
        if not 1 <= lifetime_s <= LONGEST_S:
            raise InvalidArgument.field("lifetime", f"1 to {LONGEST_S} s are allowed")
        proof = requests.proof(request.proof, request.HasField("proof"))
        work = validating.validate(self._tools, realm, call.identity, request.token.value, proof=proof)
        validated = await self._guarded(realm, call, work)
        text, expires_s = self._assert(realm, validated.session, audience, lifetime_s)
        return pb.IssueAssertionResponse(assertion=text, expire_time=answers.time(expires_s * 1_000_000))

    async def GetKeySet(self, request: pb.GetKeySetRequest, call: Call) -> pb.GetKeySetResponse:
        text = assertions.key_set(self._tools.keyring)
        return pb.GetKeySetResponse(jwks_json=text, max_age=Duration(seconds=_KEY_SET_AGE_S))

    def WatchRevocations(
        self, request: pb.WatchRevocationsRequest, call: Call
    ) -> AsyncIterator[pb.WatchRevocationsResponse]:
        return watching.watch(self._tools, self._pages, request, call.identity)

    async def _held_apart(self, realm: Realm, call: Call, work: Coroutine[Any, Any, _Result], address: str) -> _Result:
        """Work for somebody who is not logged in, if there is room for one more of them."""
        try:
            with self._quotas.anonymous(address):
                return await work
        except AnonymousQuota:
            work.close()
            if refused := self._quotas.to_tell():
                self._tools.events.record("anonymous_quota", realm.name, caller=call.identity, refused=refused)
            raise

    def _enter(self, name: str, call: Call, method: str) -> Realm:
        self._quotas.called(call.identity)
        realm = self._tools.realms.enter(name, call.identity, method)
        if realm.policy.kind is Kind.OPAQUE:
            raise RealmIsOpaque
        return realm

    def _staleness_us(self, realm: Realm) -> int:
        """How old what an answer stands on may be: what is known of realms, and what stands in front of the store."""
        hot_us = self._tools.hot.staleness_us(realm) if self._tools.hot is not None else 0
        return max(hot_us, self._tools.realms.staleness_us(realm.name))

    def _public(self, realm: Realm, call: Call, session: Session) -> pb.Session:
        return answers.session(self._tools.keyring, realm.policy, call.identity, session)

    def _cookie(self, session: Session) -> str:
        return cookies.cookie(self._tools, session.handle, session.revision)

    async def _shown(self, realm: Realm, call: Call, session: Session) -> pb.Session:
        """With the hints of its client, for people to know it by."""
        answer = self._public(realm, call, session)
        answer.hints.update(await hints.of_session(self._tools, realm, session))
        return answer

    def _assert(self, realm: Realm, session: Session, audience: str, lifetime_s: int) -> tuple[str, int]:
        made = claims(self._tools, realm, session, audience, lifetime_s)
        return assertions.sign(self._tools.keyring, made), made["exp"]

    async def _guarded(self, realm: Realm, call: Call, work: Awaitable[_Result], address: str = "") -> _Result:
        """The work on a token; its failure is counted, and answered no sooner than the floor."""
        clock = self._tools.clock.clock
        began = clock.monotonic()
        try:
            return await work
        except SessionInvalid:
            await clock.sleep(began + self._floor_s - clock.monotonic())
            try:
                self._guesses.failed(call.identity, address)
            except GuessLimit:
                self._tools.events.record("guess_limit", realm.name, caller=call.identity)
                raise
            raise
