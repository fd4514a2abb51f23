"""Sessions: realms, and the sessions of one realm. Answers are the messages of ``wellspring.session.v1``, but for a
token.

A token is a secret: :class:`Token` shows nothing of itself when it is printed; hand ``token.value`` to the bearer and
to nobody else.
"""

import dataclasses
import datetime
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from wellspring.session.v1 import session_admin_pb2 as admin
from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.calls import Caller
from wellspring_client.tokens import request_id as new_request_id

_SERVICE = pb.DESCRIPTOR.services_by_name["Sessions"]
_ADMIN = admin.DESCRIPTOR.services_by_name["SessionAdmin"]
_Answer = TypeVar("_Answer", bound=Message)


class Token:
    """What the bearer holds. Equal tokens are equal; printing shows nothing."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Token(<hidden>)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)

    def secret(self) -> pb.Secret:
        """The message."""
        return pb.Secret(value=self.value.encode())


@dataclasses.dataclass(frozen=True, slots=True)
class Minted:
    """A token with its session. ``cookie``: a validation in another data centre that brings it sees this session;
    ``grace_until`` (of a rotation): until then the old token is good as well."""

    token: Token
    session: pb.Session
    cookie: str
    grace_until: datetime.datetime | None = None


def set_data(key: str, value: bytes, *, if_version: int | None = None) -> pb.DataOperation:
    """Set ``key``; ``if_version``: only when this is its version (0: only when it is absent)."""
    return pb.DataOperation(key=key, set=value, if_version=if_version)


def remove_data(key: str, *, if_version: int | None = None) -> pb.DataOperation:
    """Remove ``key``."""
    return pb.DataOperation(key=key, remove=True, if_version=if_version)


def add_data(key: str, amount: int) -> pb.DataOperation:
    """Add ``amount`` to the decimal number of ``key``; absent counts as 0."""
    return pb.DataOperation(key=key, add=amount)


def set_data_once(key: str, value: bytes) -> pb.DataOperation:
    """Set ``key`` unless it is there (a nonce spent): ConditionFailed then."""
    return pb.DataOperation(key=key, set_once=value)


class Realm:
    """The sessions of one realm. Tokens are :class:`Token`, or the text that a bearer presented."""

    def __init__(self, caller: Caller, name: str) -> None:
        self.name = name
        self._caller = caller

    async def create(
        self,
        subject: str = "",
        *,
        level: int = 1,
        methods: Sequence[str] = (),
        auth_time: datetime.datetime | None = None,
        data: Mapping[str, bytes] | None = None,
        shared_data: Mapping[str, bytes] | None = None,
        address: str = "",
        user_agent: str = "",
        bind_key_thumbprint: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Minted:
        """Begin a session of ``subject`` (empty: anonymous), authenticated now or at ``auth_time`` to assurance
        ``level`` 1..3. ``bind_key_thumbprint`` (RFC 7638, base64url) binds it to a key of the client: its token is good
        with a proof by that key only (DPoP, RFC 9449).

        Raises NotFound (the realm), QuotaExceeded (sessions of the subject), InvalidRequest.
        """
        request = pb.CreateRequest(
            realm=self.name,
            subject=subject,
            assurance=_assurance(level, methods, auth_time) if subject else None,
            data=data or {},
            shared_data=shared_data or {},
            client_hints=pb.ClientHints(address=address, user_agent=user_agent),
            bind_key_thumbprint=bind_key_thumbprint,
            request_id=request_id or new_request_id(),
        )
        answer = await self._call("Create", request, pb.CreateResponse, timeout)
        return Minted(_token(answer.token), answer.session, answer.cookie)

    async def validate(
        self,
        token: Token | str,
        *,
        touch: bool = True,
        data_keys: Sequence[str] = (),
        assertion_audience: str = "",
        address: str = "",
        cookie: str = "",
        proof: pb.Proof | None = None,
        timeout: float | None = None,
    ) -> pb.ValidateResponse:
        """Whose session this is, with the data asked for; ``proof`` for one that is bound to a key of the client, good
        once. Raises SessionInvalid (log in again), InvalidRequest (no
        token at all), Unavailable (not known now: neither let in nor log out)."""
        request = pb.ValidateRequest(
            token=_secret(token),
            realm=self.name,
            touch=touch,
            data_keys=data_keys,
            assertion_audience=assertion_audience,
            client_hints=pb.ClientHints(address=address),
            cookie=cookie,
            proof=proof,
        )
        return await self._call("Validate", request, pb.ValidateResponse, timeout)

    async def get(self, handle: str, *, timeout: float | None = None) -> pb.Session:
        """A session by its public handle."""
        return await self._call("Get", pb.GetRequest(realm=self.name, handle=handle), pb.Session, timeout)

    async def update_data(
        self,
        token: Token | str,
        *operations: pb.DataOperation,
        request_id: str | None = None,
        proof: pb.Proof | None = None,
        timeout: float | None = None,
    ) -> pb.UpdateDataResponse:
        """Change the sealed data, all or nothing. Raises ConditionFailed, SessionInvalid."""
        request = pb.UpdateDataRequest(
            token=_secret(token),
            realm=self.name,
            operations=operations,
            request_id=request_id or new_request_id(),
            proof=proof,
        )
        return await self._call("UpdateData", request, pb.UpdateDataResponse, timeout)

    async def update_shared(
        self, handle: str, *operations: pb.DataOperation, request_id: str | None = None, timeout: float | None = None
    ) -> pb.UpdateSharedResponse:
        """Change the compartment that needs no token."""
        request = pb.UpdateSharedRequest(
            realm=self.name, handle=handle, operations=operations, request_id=request_id or new_request_id()
        )
        return await self._call("UpdateShared", request, pb.UpdateSharedResponse, timeout)

    async def rotate(
        self,
        token: Token | str,
        *,
        privilege_changed: bool = False,
        request_id: str | None = None,
        proof: pb.Proof | None = None,
        timeout: float | None = None,
    ) -> Minted:
        """A new token; the old one is good for a short grace, or not at all when ``privilege_changed``."""
        reason = pb.RotateRequest.REASON_PRIVILEGE if privilege_changed else pb.RotateRequest.REASON_PERIODIC
        request = pb.RotateRequest(
            token=_secret(token), realm=self.name, reason=reason, request_id=request_id or new_request_id(), proof=proof
        )
        answer = await self._call("Rotate", request, pb.RotateResponse, timeout)
        grace = answer.grace_until.ToDatetime(datetime.UTC) if answer.HasField("grace_until") else None
        return Minted(_token(answer.token), answer.session, answer.cookie, grace)

    async def reauthenticate(
        self,
        token: Token | str,
        *,
        level: int,
        methods: Sequence[str] = (),
        auth_time: datetime.datetime | None = None,
        subject: str = "",
        request_id: str | None = None,
        proof: pb.Proof | None = None,
        timeout: float | None = None,
    ) -> Minted:
        """After the person has authenticated again: new times, possibly a higher level, a new token."""
        request = pb.ReauthenticateRequest(
            token=_secret(token),
            realm=self.name,
            assurance=_assurance(level, methods, auth_time),
            subject=subject,
            request_id=request_id or new_request_id(),
            proof=proof,
        )
        answer = await self._call("Reauthenticate", request, pb.ReauthenticateResponse, timeout)
        return Minted(_token(answer.token), answer.session, answer.cookie)

    async def revoke(
        self,
        token: Token | str | None = None,
        *,
        handle: str | None = None,
        others_of: Token | str | None = None,
        subject: str | None = None,
        whole_realm: bool = False,
        reason: str = "",
        timeout: float | None = None,
    ) -> pb.RevokeResponse:
        """End one session (``token`` or ``handle``), the ``others_of`` a token's subject, all of a ``subject``, or the
        realm's.

        Raises ValueError unless exactly one of them is given.
        """
        given = [token is not None, handle is not None, others_of is not None, subject is not None, whole_realm]
        if sum(given) != 1:
            raise ValueError("give exactly one of token, handle, others_of, subject and whole_realm")
        request = pb.RevokeRequest(realm=self.name, reason=reason)
        if token is not None:
            request.token.CopyFrom(_secret(token))
        elif handle is not None:
            request.handle = handle
        elif others_of is not None:
            request.others_of_token.CopyFrom(_secret(others_of))
        elif subject is not None:
            request.subject = subject
        else:
            request.whole_realm = True
        return await self._call("Revoke", request, pb.RevokeResponse, timeout)

    async def list_by_subject(self, subject: str, *, timeout: float | None = None) -> AsyncIterator[pb.Session]:
        """The subject's live sessions."""
        request = pb.ListBySubjectRequest(realm=self.name, subject=subject)
        while True:
            answer = await self._call("ListBySubject", request, pb.ListBySubjectResponse, timeout)
            for session in answer.sessions:
                yield session
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def erase_subject(self, subject: str, *, timeout: float | None = None) -> pb.EraseSubjectResponse:
        """Destroy the subject's key: nothing of it can be read again."""
        request = pb.EraseSubjectRequest(realm=self.name, subject=subject)
        return await self._call("EraseSubject", request, pb.EraseSubjectResponse, timeout)

    async def watch_revocations(self, *, resume_token: str = "") -> AsyncIterator[pb.WatchRevocationsResponse]:
        """Revocations and heartbeats, for ever, over as many connections as it takes."""

        def request(token: str) -> pb.WatchRevocationsRequest:
            return pb.WatchRevocationsRequest(realm=self.name, resume_token=token)

        async for answer in self._caller.resuming(
            _SERVICE,
            "WatchRevocations",
            request,
            pb.WatchRevocationsResponse,
            resume_token,
            lambda one: one.resume_token,
            endless=True,
        ):
            yield answer

    async def _call(self, method: str, request: Message, answer: type[_Answer], timeout: float | None) -> _Answer:
        return await self._caller.unary(_SERVICE, method, request, answer, timeout)


class Sessions:
    """The session service."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def realm(self, name: str) -> Realm:
        """The sessions of ``name``; no call is made."""
        return Realm(self._caller, name)

    async def key_set(self, *, timeout: float | None = None) -> str:
        """The public keys that assertions and the audit are signed with (RFC 7517, JSON)."""
        return (await self.published_keys(timeout=timeout)).jwks_json

    async def published_keys(self, *, timeout: float | None = None) -> pb.GetKeySetResponse:
        """As :meth:`key_set`, with the age up to which the keys may be kept."""
        return await self._caller.unary(_SERVICE, "GetKeySet", pb.GetKeySetRequest(), pb.GetKeySetResponse, timeout)

    async def create_realm(
        self, name: str, *, settings: admin.Realm | None = None, timeout: float | None = None
    ) -> admin.Realm:
        """Make a realm; ``settings`` has its policy. Raises AlreadyExists."""
        realm = admin.Realm()
        if settings is not None:
            realm.CopyFrom(settings)
        realm.name = name
        return await self.admin("CreateRealm", admin.CreateRealmRequest(realm=realm), admin.Realm, timeout=timeout)

    async def list_realms(self, *, timeout: float | None = None) -> AsyncIterator[admin.Realm]:
        """All realms that this caller may use."""
        request = admin.ListRealmsRequest()
        while True:
            answer = await self.admin("ListRealms", request, admin.ListRealmsResponse, timeout=timeout)
            for realm in answer.realms:
                yield realm
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def set_readmission_window(
        self, realm: str, window: datetime.timedelta, *, timeout: float | None = None
    ) -> admin.Realm:
        """Over how long logins are let in again after the whole realm was revoked; nothing: all at once."""
        request = admin.UpdateRealmRequest(realm=admin.Realm(name=realm))
        request.realm.readmission_window.FromTimedelta(window)
        request.update_mask.paths.append("readmission_window")
        return await self.admin("UpdateRealm", request, admin.Realm, timeout=timeout)

    async def usage(self, realm: str, *, timeout: float | None = None) -> admin.GetUsageResponse:
        """How many sessions a realm has (those that are over and not swept yet included), and of how many subjects."""
        return await self.admin("GetUsage", admin.GetUsageRequest(realm=realm), admin.GetUsageResponse, timeout=timeout)

    async def list_keys(self, *, timeout: float | None = None) -> Sequence[admin.Key]:
        """The keys that the service seals, tags and signs with: names and states, never a secret."""
        answer = await self.admin("ListKeys", admin.ListKeysRequest(), admin.ListKeysResponse, timeout=timeout)
        return answer.keys

    async def promote_key(self, key_id: str, *, timeout: float | None = None) -> admin.Key:
        """Make a key the one that is used for what is new. Raises NotFound, FailedPrecondition."""
        return await self.admin("PromoteKey", admin.PromoteKeyRequest(key_id=key_id), admin.Key, timeout=timeout)

    async def retire_key(self, key_id: str, *, timeout: float | None = None) -> admin.Key:
        """A bounded piece of retiring a key: call again while its state is RETIRING, ``remaining`` tells the rows left.

        Raises FailedPrecondition while something needs the key.
        """
        return await self.admin("RetireKey", admin.RetireKeyRequest(key_id=key_id), admin.Key, timeout=timeout)

    async def fence_datacentre(self, datacentre: str, *, reason: str = "", timeout: float | None = None) -> None:
        """Shut a data centre out: it refuses, and the others do not wait for it. Raises FailedPrecondition for one that
        is not known, or the last."""
        request = admin.FenceDatacentreRequest(datacentre=datacentre, reason=reason)
        await self.admin("FenceDatacentre", request, admin.FenceDatacentreResponse, timeout=timeout)

    async def unfence_datacentre(self, datacentre: str, *, timeout: float | None = None) -> None:
        """Let a data centre in again. Raises as :meth:`fence_datacentre`."""
        request = admin.UnfenceDatacentreRequest(datacentre=datacentre)
        await self.admin("UnfenceDatacentre", request, admin.UnfenceDatacentreResponse, timeout=timeout)

    async def admin(
        self, method: str, request: Message, answer: type[_Answer], *, timeout: float | None = None
    ) -> _Answer:
        """Any other unary method of SessionAdmin, by its name and messages."""
        return await self._caller.unary(_ADMIN, method, request, answer, timeout)


def _assurance(level: int, methods: Sequence[str], auth_time: datetime.datetime | None) -> pb.Assurance:
    stamp = Timestamp()
    if auth_time is None:
        stamp.GetCurrentTime()
    elif auth_time.tzinfo is None:
        raise ValueError("auth_time needs a time zone, such as datetime.timezone.utc")
    else:
        stamp.FromDatetime(auth_time)
    return pb.Assurance(level=level, methods=methods, auth_time=stamp)


def _secret(token: Token | str) -> pb.Secret:
    return token.secret() if isinstance(token, Token) else pb.Secret(value=token.encode())


def _token(secret: pb.Secret) -> Token:
    return Token(secret.value.decode())
