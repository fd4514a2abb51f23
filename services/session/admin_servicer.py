"""Realms, keys, and what an operator may see. Who may call is decided by the server's allow-list."""

from collections.abc import Sequence

from google.protobuf.message import Message

from libs.errors.errors import InvalidArgument
from libs.paging.paging import PageTokens
from libs.rpc.call import Call
from services.session import answers, requests
from services.session.crypto.keyring import ACTIVE, NEXT, RETIRING, Key
from services.session.domain import fencing, hints, validating
from services.session.domain.errors import RealmNotFound
from services.session.domain.policy import Kind
from services.session.domain.realms import Realm
from services.session.domain.rekeying import Rekeying
from services.session.domain.tools import Tools
from services.session.realm_messages import SETTABLE, message_of, policy_of
from wellspring.session.v1 import session_admin_pb2 as pb

_PURPOSES = {"seal": "keyring", "sign": "signing"}
_STATES = {NEXT: pb.Key.STATE_NEXT, ACTIVE: pb.Key.STATE_ACTIVE, RETIRING: pb.Key.STATE_RETIRING}


class SessionAdminServicer:
    """``wellspring.session.v1.SessionAdmin``."""

    def __init__(self, tools: Tools, pages: PageTokens, rekeying: Rekeying) -> None:
        self._tools = tools
        self._pages = pages
        self._rekeying = rekeying

    async def CreateRealm(self, request: pb.CreateRealmRequest, call: Call) -> pb.Realm:
        realm = await self._tools.realms.create(request.realm.name, policy_of(request.realm))
        self._tools.events.record("realm_created", realm.name, caller=call.identity)
        return message_of(realm)

    async def GetRealm(self, request: pb.GetRealmRequest, call: Call) -> pb.Realm:
        return message_of(self._realm(request.name))

    async def ListRealms(self, request: pb.ListRealmsRequest, call: Call) -> pb.ListRealmsResponse:
        size = requests.page_size(request.page_size)
        after = self._pages.open(request.page_token, method="ListRealms", identity=())
        names = [name for name in self._tools.realms.names() if after is None or name.encode() > after]
        token = ""
        if len(names) > size:
            token = self._pages.issue(names[size - 1].encode(), method="ListRealms", identity=())
        found = [self._tools.realms.get(name) for name in names[:size]]
        return pb.ListRealmsResponse(realms=[message_of(r) for r in found if r is not None], next_page_token=token)

    async def UpdateRealm(self, request: pb.UpdateRealmRequest, call: Call) -> pb.Realm:
        merged = _merged(message_of(self._realm(request.realm.name)), request.realm, request.update_mask.paths)
        realm = await self._tools.realms.update(request.realm.name, policy_of(merged), request.realm.etag)
        self._tools.events.record("realm_updated", realm.name, caller=call.identity)
        return message_of(realm)

    async def DeleteRealm(self, request: pb.DeleteRealmRequest, call: Call) -> pb.DeleteRealmResponse:
        await self._tools.realms.delete(request.name, request.etag)
        self._tools.events.record("realm_deleted", request.name, caller=call.identity)
        return pb.DeleteRealmResponse()

    async def ListKeys(self, request: pb.ListKeysRequest, call: Call) -> pb.ListKeysResponse:
        keys = [self._key(key) for key in await self._rekeying.keys()]
        for key_id in await self._rekeying.retired():
            purpose = key_id.rpartition("-")[0]
            keys.append(pb.Key(key_id=key_id, purpose=_PURPOSES.get(purpose, purpose), state=pb.Key.STATE_RETIRED))
        return pb.ListKeysResponse(keys=keys)

    async def PromoteKey(self, request: pb.PromoteKeyRequest, call: Call) -> pb.Key:
        return self._key(await self._rekeying.promote(requests.key_id(request.key_id), call.identity))

    async def RetireKey(self, request: pb.RetireKeyRequest, call: Call) -> pb.Key:
        retired = await self._rekeying.retire(requests.key_id(request.key_id), call.identity)
        purpose = request.key_id.rpartition("-")[0]
        state = pb.Key.STATE_RETIRED if retired.done else pb.Key.STATE_RETIRING
        purpose = _PURPOSES.get(purpose, purpose)
        return pb.Key(key_id=retired.key_id, purpose=purpose, state=state, remaining=retired.remaining)

    async def GetUsage(self, request: pb.GetUsageRequest, call: Call) -> pb.GetUsageResponse:
        realm = self._realm(request.realm)
        if realm.policy.kind is Kind.OPAQUE:
            return pb.GetUsageResponse(sessions=await self._tools.store.opaque.count(realm.name))
        usage = await self._tools.store.usage(realm.name)
        return pb.GetUsageResponse(sessions=usage.sessions, anonymous_sessions=usage.anonymous, subjects=usage.subjects)

    async def InspectSession(self, request: pb.InspectSessionRequest, call: Call) -> pb.InspectSessionResponse:
        realm, handle = self._realm(request.realm), requests.handle(request.handle)
        session, verdict, cause = await validating.inspect(self._tools, realm, handle)
        self._tools.events.record("session_inspected", realm.name, handle=handle, caller=call.identity)
        answer = pb.InspectSessionResponse(state=verdict.state.value, cause=cause)
        if verdict.since_us:
            answer.since.CopyFrom(answers.time(verdict.since_us))
        if session is not None:
            answer.session.CopyFrom(answers.session(self._tools.keyring, realm.policy, call.identity, session))
            answer.session.hints.update(await hints.of_session(self._tools, realm, session))
        return answer

    async def FenceDatacentre(self, request: pb.FenceDatacentreRequest, call: Call) -> pb.FenceDatacentreResponse:
        name = requests.datacentre(request.datacentre)
        await fencing.shut(self._tools, call.identity, name, request.reason)
        return pb.FenceDatacentreResponse()

    async def UnfenceDatacentre(self, request: pb.UnfenceDatacentreRequest, call: Call) -> pb.UnfenceDatacentreResponse:
        name = requests.datacentre(request.datacentre)
        await fencing.open_again(self._tools, call.identity, name)
        return pb.UnfenceDatacentreResponse()

    def _key(self, key: Key) -> pb.Key:
        return pb.Key(
            key_id=key.key_id,
            purpose=_PURPOSES.get(key.purpose, key.purpose),
            state=_STATES[key.state],
            create_time=answers.time(key.created_s * 1_000_000),
            remaining=self._rekeying.remaining(key.key_id),
        )

    def _realm(self, name: str) -> Realm:
        realm = self._tools.realms.get(name)
        if realm is None:
            raise RealmNotFound
        return realm


def _merged(current: pb.Realm, given: pb.Realm, paths: Sequence[str]) -> pb.Realm:
    """The current realm with the fields that the mask names from the one given; no mask names all."""
    names = sorted(SETTABLE) if not paths or list(paths) == ["*"] else paths
    into: Message = current
    for name in names:
        if name not in SETTABLE:
            what = f"names {name[:64]!r}; a realm's own fields are allowed, without name, create_time and etag"
            raise InvalidArgument.field("update_mask", what)
        into.ClearField(name)
    only: Message = pb.Realm()
    only.CopyFrom(given)
    for name in SETTABLE.difference(names):
        only.ClearField(name)
    into.MergeFrom(only)
    current.name = given.name
    return current
