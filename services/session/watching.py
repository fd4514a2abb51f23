"""The feed of revocations: who checks sessions elsewhere learns in time which of them are over.

A watcher that has a heartbeat naming number N has heard of all revocations of this origin up to N. It reads from the
store, twice in the bound at the least, so that it needs no signal that could be lost.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from libs.errors.errors import OutOfRange
from libs.paging.paging import PageTokens
from services.session import answers
from services.session.crypto import pseudonyms
from services.session.domain.model import Revocation, RevocationKind
from services.session.domain.tools import Tools
from wellspring.session.v1 import session_pb2 as pb

_METHOD: Final = "WatchRevocations"
_AT_ONCE: Final = 1000
_NUMBER_BYTES: Final = 8
_LOOK_S: Final = 0.1
_HEARTBEAT_S: Final = 1.0


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
        await tools.store.settled()
    else:
        at, life = int.from_bytes(given[:_NUMBER_BYTES], "big"), given[_NUMBER_BYTES:]
        if life != tools.incarnation:  # numbers of before a restore mean something else now
            raise _expired()
    said_s: float | None = None
    clock = tools.clock.clock
    while True:
        realm = tools.realms.enter(name, caller, _METHOD)
        revoked = await tools.store.revocations(name, at, _AT_ONCE)
        if at + 1 < revoked.oldest or at > revoked.newest:
            raise _expired()
        now_s = clock.monotonic()
        every_s = min(_HEARTBEAT_S, realm.policy.revocation_bound_us / 2e6)
        if revoked.found or said_s is None or now_s - said_s >= every_s:
            await tools.store.settled()  # nothing is told that a crash could take back
            at, said_s = (revoked.found[-1].sequence if revoked.found else at), now_s
            yield pb.WatchRevocationsResponse(
                revocations=[_told(tools, name, caller, one) for one in revoked.found],
                heartbeats=[
                    pb.WatchRevocationsResponse.Heartbeat(
                        origin=tools.datacentre, sequence=at, time=answers.time(tools.clock.now_us())
                    )
                ],
                resume_token=pages.issue(
                    at.to_bytes(_NUMBER_BYTES, "big") + tools.incarnation, method=_METHOD, identity=identity
                ),
            )
        if at == revoked.newest:
            await clock.sleep(min(_LOOK_S, every_s / 2))
        else:
            await asyncio.sleep(0)


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
