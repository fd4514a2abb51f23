"""The feed of revocations: who checks sessions elsewhere learns in time which of them are over.

A watcher that has a heartbeat naming number N has heard of all revocations of its origin up to N, as of its time: this
data centre is one origin, and each other one that is heard here another. What is told is read from the store, twice in
the bound at the least, so that no signal is needed that could be lost.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from libs.errors.errors import OutOfRange
from libs.paging.paging import PageTokens
from services.session import answers
from services.session.crypto import pseudonyms
from services.session.domain.model import Revocation, RevocationKind
from services.session.domain.tools import Tools
from services.session.store.origins_interface import Origins
from wellspring.session.v1 import session_pb2 as pb

_METHOD: Final = "WatchRevocations"
_AT_ONCE: Final = 1000
_LOOK_S: Final = 0.1
_HEARTBEAT_S: Final = 1.0
_WATCHED: Final = (RevocationKind.SESSION, RevocationKind.SUBJECT, RevocationKind.REALM)
"""What is deleted in an opaque realm has no name that its watchers know."""


class ResumeTokenExpired(OutOfRange):
    """Revocations behind the token are no longer kept: what was believed until now must be forgotten."""

    default_reason = "RESUME_TOKEN_EXPIRED"


async def watch(
    tools: Tools, pages: PageTokens, request: pb.WatchRevocationsRequest, caller: str
) -> AsyncGenerator[pb.WatchRevocationsResponse, None]:
    """Begins with a heartbeat: without a resume token, what is revoked from then on. Raises RealmNotFound when the
    realm goes, or is closed to the caller."""
    name = request.realm
    tools.realms.enter(name, caller, _METHOD)
    identity = (name, caller)
    given = pages.open(request.resume_token, method=_METHOD, identity=identity)
    if given is None:
        at = (await tools.store.revocations(name, 0, 0)).newest
        far = {origin: await _origins(tools).position(name, origin) for origin in tools.others}
        await tools.store.settled()
    else:
        at, life, far = _resumed(given)
        if life != tools.incarnation.hex() or set(far) != set(tools.others):
            raise _expired()  # numbers of before a restore mean something else now
    said_s: float | None = None
    clock = tools.clock.clock
    while True:
        realm = tools.realms.enter(name, caller, _METHOD)
        revoked = await tools.store.revocations(name, at, _AT_ONCE)
        if at + 1 < revoked.oldest or at > revoked.newest:
            raise _expired()
        # Before what is read of them: all of what was heard until then is in it.
        heard = {origin: tools.realms.listening.whole_us(origin, name) for origin in tools.others}
        others = {origin: await _of_another(tools, name, origin, far[origin]) for origin in tools.others}
        now_s = clock.monotonic()
        every_s = min(_HEARTBEAT_S, realm.policy.revocation_bound_us / 2e6)
        found = [*revoked.found, *(one for some in others.values() for one in some)]
        if found or said_s is None or now_s - said_s >= every_s:
            await tools.store.settled()  # nothing is told that a crash could take back
            at, said_s = (revoked.found[-1].sequence if revoked.found else at), now_s
            far |= {origin: some[-1].sequence for origin, some in others.items() if some}
            beats = [_beat(tools.datacentre, at, tools.clock.now_us())]
            beats += [
                _beat(origin, number, heard[origin])
                for origin, number in far.items()
                if heard[origin] and len(others[origin]) < _AT_ONCE
            ]
            yield pb.WatchRevocationsResponse(
                revocations=[_told(tools, name, caller, one) for one in found if one.kind in _WATCHED],
                heartbeats=beats,
                resume_token=pages.issue(_resume(at, tools.incarnation.hex(), far), method=_METHOD, identity=identity),
            )
        if at == revoked.newest:
            await clock.sleep(min(_LOOK_S, every_s / 2))
        else:
            await asyncio.sleep(0)


async def _of_another(tools: Tools, realm: str, origin: str, after: int) -> list[Revocation]:
    """Those of another data centre behind a number. Raises ResumeTokenExpired where some are no longer kept."""
    upto = await _origins(tools).position(realm, origin)
    found = await _origins(tools).revocations(realm, origin, after, _AT_ONCE)
    if upto > after and (not found or found[0].sequence != after + 1):
        raise _expired()
    return found


def _origins(tools: Tools) -> Origins:
    origins = tools.store.origins
    if origins is None:
        raise _expired()
    return origins


def _resume(at: int, life: str, far: Mapping[str, int]) -> bytes:
    return json.dumps([at, life, far]).encode()


def _resumed(given: bytes) -> tuple[int, str, dict[str, int]]:
    try:
        at, life, far = json.loads(given)
    except ValueError:
        raise _expired() from None  # of a release before
    return at, life, far


def _beat(origin: str, number: int, at_us: int) -> pb.WatchRevocationsResponse.Heartbeat:
    return pb.WatchRevocationsResponse.Heartbeat(origin=origin, sequence=number, time=answers.time(at_us))


def _expired() -> ResumeTokenExpired:
    return ResumeTokenExpired("revocations behind this token are no longer kept; forget what was learnt, begin anew")


def _told(tools: Tools, realm: str, caller: str, one: Revocation) -> pb.WatchRevocationsResponse.Revocation:
    """As this caller may know it: subjects in its own form."""
    told = pb.WatchRevocationsResponse.Revocation(time=answers.time(one.at_us))
    if one.kind is RevocationKind.SESSION:
        told.handle_hash = one.name
    elif one.kind is RevocationKind.SUBJECT:
        told.subject = pseudonyms.pairwise(tools.keyring, realm, caller, one.name)
    else:
        told.whole_realm = True
    return told
