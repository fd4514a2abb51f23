"""Ending sessions: one, the others of a subject, all of a subject, all of a realm; and a subject's key for ever.

What revokes many is one write of an epoch; removing what it ended is housekeeping, and may stop half way. `said` is
why, in the caller's words.
"""

from typing import Final, NamedTuple

from services.session.crypto import pseudonyms
from services.session.domain import homes
from services.session.domain.bearer import checker, identify, read_token, tombstone
from services.session.domain.epochs import is_below
from services.session.domain.errors import HomeUnreachable, SessionInvalid
from services.session.domain.family import Standing, present
from services.session.domain.model import ANONYMOUS, Epoch
from services.session.domain.proofs import Proof
from services.session.domain.realms import Realm
from services.session.domain.tools import Tools
from services.session.store.interface import End, Stored

PAGE = 256
_LOGOUTS: Final = ("logout", "handle")


class Erased(NamedTuple):
    """A receipt: how many sessions ended, when (microseconds), and a name for it."""

    sessions: int
    at_us: int
    receipt: bytes


async def revoke_token(tools: Tools, realm: Realm, caller: str, text: bytes, said: str = "") -> int:
    """Ends the session of a token. Whatever well-formed token is shown, the answer is that its session is over: 1 when
    it ended by this, 0 when it was over (or never was). Raises TokenMalformed.

    A token that was replaced ends it as well: who logs out beside a step-up is logged out, whichever comes first.
    """
    try:
        token = read_token(tools, realm, text)
    except SessionInvalid:
        return 0
    check = checker(tools.vault, token)

    def told(stored: Stored) -> bool:
        now_us = tools.clock.now_us()
        verdict = realm.judge(stored, now_us)
        if stored.session is None or not verdict.live:
            return verdict.revoked
        return present(stored.session, check, now_us).standing is not Standing.REFUSED

    try:
        home = tools.home_of(token.home)
        stored = await homes.read(tools, realm.name, token.handle, (), b"", home=home, good=told)
    except HomeUnreachable:
        return await _end_unseen(tools, realm, caller, token.handle, "logout", said)
    session, now_us = stored.session, tools.clock.now_us()
    verdict = realm.judge(stored, now_us)
    if session is not None and (verdict.live or verdict.revoked):
        standing = present(session, check, now_us).standing
        if standing is not Standing.REFUSED:
            cause = "theft" if standing is Standing.STOLEN else "logout"
            # What was revoked and is still there was left by somebody who did not come to the end of it.
            ended = await _end(tools, realm, caller, stored, now_us, cause, said)
            return ended if verdict.live or _untold(tools, stored) else 0
    await tools.store.settled()
    return 0


async def revoke_handle(tools: Tools, realm: Realm, caller: str, handle: str, said: str = "") -> int:
    """Ends a session by its public name: 1, or 0 when it was over."""
    try:
        stored = await homes.find(tools, realm.name, handle)
    except HomeUnreachable:
        return await _end_unseen(tools, realm, caller, handle, "handle", said)
    if stored.session is not None:
        live = realm.judge(stored, tools.clock.now_us()).live
        ended = await _end(tools, realm, caller, stored, tools.clock.now_us(), "handle", said)
        return ended if live or _untold(tools, stored) else 0
    await tools.store.settled()
    return 0


async def revoke_others(
    tools: Tools, realm: Realm, caller: str, text: bytes, proof: Proof | None = None, said: str = ""
) -> int:
    """Ends the subject's sessions but the bearer's; an anonymous one has no others. Raises TokenMalformed,
    SessionInvalid."""
    bearer = await identify(tools, realm, text, caller=caller, path="others_of_token", proof=proof)
    own = bearer.session
    if own.anonymous:
        return 0
    return await _end_all(tools, realm, caller, own.subject, but=own.handle, cause="others", said=said)


async def revoke_subject(tools: Tools, realm: Realm, caller: str, subject: str, said: str = "") -> int:
    """Ends all sessions of a subject that are there now, those being created included."""
    who = pseudonyms.pseudonym(tools.keyring, realm.name, subject)
    epoch = await tools.store.raise_subject_epoch(realm.name, who, tools.datacentre, tools.clock.now_us())
    tools.events.record("subject_revoked", realm.name, caller=caller, **_words(said))
    return await _end_all(tools, realm, caller, who, below=epoch, cause="subject", said=said)


async def revoke_realm(tools: Tools, realm: Realm, caller: str, said: str = "") -> None:
    """Ends all sessions of a realm that are there now."""
    await tools.realms.revoke(realm.name)
    tools.events.record("realm_revoked", realm.name, caller=caller, **_words(said))


async def erase_subject(tools: Tools, realm: Realm, caller: str, subject: str) -> Erased:
    """Ends all of a subject, then destroys its key: what was sealed for it, here or in a copy, opens no more."""
    who = pseudonyms.pseudonym(tools.keyring, realm.name, subject)
    now_us = tools.clock.now_us()
    epoch = await tools.store.raise_subject_epoch(realm.name, who, tools.datacentre, now_us)
    await tools.store.erase_subject_key(realm.name, who)
    tools.vault.forget(realm.name, who)
    if tools.store.keys_apart:
        # A login that came between the two may have lost its key: it is over as well.
        epoch = await tools.store.raise_subject_epoch(realm.name, who, tools.datacentre, now_us)
    sessions = await _end_all(tools, realm, caller, who, below=epoch, cause="erased")
    tools.events.record("subject_erased", realm.name, caller=caller)
    return Erased(sessions, now_us, tools.random(16))


async def _end(tools: Tools, realm: Realm, caller: str, stored: Stored, now_us: int, cause: str, said: str) -> int:
    if stored.session is None:
        return 0
    ended = await tools.store.end(realm.name, [tombstone(stored.session, now_us, _noted(cause, said))])
    if ended:
        handle = stored.session.handle
        tools.events.record("session_revoked", realm.name, handle=handle, caller=caller, cause=cause, **_words(said))
    return ended


def _untold(tools: Tools, stored: Stored) -> bool:
    """Whether a session is there that a logout ended: whoever began that was not told so yet, and will not be when
    another one comes to the end of it. Of several data centres one may have been told where the session is not
    removed."""
    stone = stored.tombstone
    return stone is not None and not tools.others and stone.cause.partition(":")[0] in _LOGOUTS


async def _end_unseen(tools: Tools, realm: Realm, caller: str, handle: str, cause: str, said: str) -> int:
    """Ends what may be there, and cannot be looked at now: its tombstone lives as long as any session could."""
    now_us = tools.clock.now_us()
    until_us = now_us + max(timeouts.absolute_us for timeouts in realm.policy.timeouts)
    ended = await tools.store.end(realm.name, [End(handle, now_us, until_us, _noted(cause, said))])
    tools.events.record("session_revoked", realm.name, handle=handle, caller=caller, cause=cause, **_words(said))
    return ended


async def _end_all(
    tools: Tools,
    realm: Realm,
    caller: str,
    subject: bytes,
    *,
    cause: str,
    but: str = "",
    below: Epoch | None = None,
    said: str = "",
) -> int:
    """Ends every session of a subject but one, a page at a time; how many were live (or ended just now by an epoch).

    With `below`, the epoch that ended them: whoever logged in after it stays.
    """
    if subject == ANONYMOUS:
        return 0
    count, after = 0, None
    while True:
        page = await tools.store.by_subject(realm.name, subject, after=after, limit=PAGE)
        now_us = tools.clock.now_us()
        ends = []
        for stored in page.found:
            if stored.session is None or stored.session.handle == but:
                continue
            if below is not None and not is_below(stored.session.subject_stamp, below):
                continue
            before_epoch = realm.judge_parts(stored.session, stored.subject_epoch._replace(counters=()), None, now_us)
            count += before_epoch.live
            ends.append(tombstone(stored.session, now_us, _noted(cause, said)))
        await tools.store.end(realm.name, ends)
        for end in ends:
            tools.events.record(
                "session_revoked", realm.name, handle=end.handle, caller=caller, cause=cause, **_words(said)
            )
        if page.resume is None:
            return count
        after = page.resume


def _words(said: str) -> dict[str, str]:
    """The caller's words, for the audit."""
    return {"said": said} if said else {}


def _noted(cause: str, said: str) -> str:
    """What a tombstone says of the cause: one word, and the caller's words behind it."""
    return f"{cause}: {said}" if said else cause
