"""New tokens for a session that is there: from time to time, when privileges change, after authenticating again."""

from collections.abc import Sequence
from dataclasses import replace

from libs.errors.errors import InvalidArgument
from services.session.crypto import pseudonyms, tokens
from services.session.domain import family
from services.session.domain.bearer import Bearer, identify
from services.session.domain.creating import Assurance, Minted, checked_auth_us, end_us, guard, new_record
from services.session.domain.errors import SubjectDiffers
from services.session.domain.model import DATA, HINTS, REQUEST, SHARED, SHARED_REQUEST, Item, Retry, Session
from services.session.domain.proofs import Proof
from services.session.domain.readmission import check_turn
from services.session.domain.realms import Realm
from services.session.domain.tools import Tools, until_written
from services.session.domain.validating import open_data_key

_OF_SUBJECT = SHARED + SHARED_REQUEST + HINTS
"""What is sealed under a key from the subject's."""
_ALL = DATA + REQUEST + _OF_SUBJECT


async def rotate(
    tools: Tools,
    realm: Realm,
    caller: str,
    text: bytes,
    *,
    privilege: bool,
    request_id: str,
    proof: Proof | None = None,
) -> Minted:
    """A child token. Periodic: its parent has a grace. `privilege`: the others end now, and the data key is new.

    Sent again with the same token and request_id, it mints another child and the first one is nothing.
    Raises TokenMalformed, SessionInvalid.
    """
    verb = "RotatePrivilege" if privilege else "Rotate"
    request = pseudonyms.request_name(tools.keyring, realm.name, caller, verb, request_id)

    async def attempt() -> Minted | None:
        kinds = DATA + REQUEST if privilege else b""
        bearer = await identify(
            tools, realm, text, caller=caller, kinds=kinds, request=request, proof=proof, decided=True
        )
        if bearer.retry is not None:
            return await _again(tools, bearer, bearer.retry)
        if privilege:
            return await _renew(tools, realm, bearer, bearer.session, request, None)
        return await _periodic(tools, realm, caller, bearer, request)

    minted = await until_written(attempt)
    tools.events.record("session_rotated", realm.name, handle=minted.session.handle, caller=caller)
    return minted


async def reauthenticate(
    tools: Tools,
    realm: Realm,
    caller: str,
    text: bytes,
    assurance: Assurance,
    subject: str,
    request_id: str,
    proof: Proof | None = None,
) -> Minted:
    """After somebody has authenticated again: new times and level, a new token and data key, no grace.

    An anonymous session becomes the subject's. Raises TokenMalformed, SessionInvalid, SubjectDiffers, SessionLimit,
    AuthenticationRevoked, Readmission, InvalidArgument.
    """
    request = pseudonyms.request_name(tools.keyring, realm.name, caller, "Reauthenticate", request_id)
    who = pseudonyms.pseudonym(tools.keyring, realm.name, subject) if subject else None

    async def attempt() -> Minted | None:
        bearer = await identify(
            tools, realm, text, caller=caller, kinds=_ALL, request=request, proof=proof, decided=True
        )
        if bearer.retry is not None:
            return await _again(tools, bearer, bearer.retry)
        return await _step_up(tools, realm, bearer, assurance, who, request)

    minted = await until_written(attempt)
    facts = {"level": minted.session.level}
    tools.events.record("session_reauthenticated", realm.name, handle=minted.session.handle, caller=caller, **facts)
    return minted


async def _step_up(
    tools: Tools, realm: Realm, bearer: Bearer, assurance: Assurance, who: bytes | None, request: bytes
) -> Minted | None:
    session, now_us = bearer.session, bearer.now_us
    if session.anonymous and who is None:
        raise InvalidArgument.field("subject", "is empty; the session is anonymous, so that somebody must be named")
    if not session.anonymous and who not in (None, session.subject):
        raise SubjectDiffers("the session is another subject's; end it and create a new one")
    owner, epoch, stamp = session.subject, bearer.stored.subject_epoch, session.subject_stamp
    if session.anonymous and who is not None:
        check_turn(tools.keyring, realm, who, request, now_us)
        owner, epoch = who, await tools.store.subject_epoch(realm.name, who)
        stamp = epoch.counters
    auth_us = checked_auth_us(assurance, realm, epoch, now_us)
    if assurance.auth_us and not session.anonymous and auth_us <= session.auth_us:
        raise InvalidArgument.field("assurance.auth_time", "is not after the authentication that the session has")
    after = replace(
        session,
        subject=owner,
        subject_stamp=stamp,
        level=assurance.level,
        methods=assurance.methods,
        auth_us=auth_us,
        active_us=max(session.active_us, now_us),
        ends_us=end_us(tools, realm.policy, session.handle, assurance.level, auth_us),
        idle_us=realm.policy.of_level(assurance.level).idle_us,
    )
    return await _renew(tools, realm, bearer, after, request, owner if session.anonymous else None)


async def _periodic(tools: Tools, realm: Realm, caller: str, bearer: Bearer, request: bytes) -> Minted | None:
    session, parent, now_us = bearer.session, bearer.good, bearer.now_us
    data_key, subject_key = await open_data_key(tools, bearer)
    token, text = tokens.remint(tools.keyring, bearer.token, tools.random)
    child = new_record(tools, token, data_key, subject_key, now_us)
    after = family.rotated(session, parent, child, now_us, realm.policy.rotation_grace_us)
    grace_us = parent.dies_us or now_us + realm.policy.rotation_grace_us
    retry = Retry(
        request,
        parent.pepper,
        parent.verifier,
        child.verifier,
        parent.wrapped,
        grace_us,
        now_us + tools.request_window_us,
    )
    after = replace(after, revision=session.revision + 1, retry=retry)
    if not await tools.store.replace(session, after):
        return None
    others = sum(record.dies_us == 0 and record is not parent for record in session.tokens)
    if parent.dies_us == 0 and others:
        # Two children of one parent were good, and one of them went on: the other is a second tab, or a copy.
        tools.events.record("orphaned_branch", realm.name, handle=session.handle, caller=caller, branches=others)
    return Minted(text, after, grace_us)


async def _renew(
    tools: Tools, realm: Realm, bearer: Bearer, changed: Session, request: bytes, new_owner: bytes | None
) -> Minted | None:
    """Only the child is good, all is sealed anew; `new_owner`: the subject that takes an anonymous session."""
    before, parent, now_us = bearer.session, bearer.good, bearer.now_us
    old_key, old_subject_key = await open_data_key(tools, bearer)
    subject_key, kept_key = old_subject_key, None
    if new_owner is not None:
        subject_key, kept_key = await tools.vault.new_session_key(realm.name, new_owner, home=before.home)
    data_key = tools.vault.new_data_key()
    token, text = tokens.remint(tools.keyring, bearer.token, tools.random)
    child = new_record(tools, token, data_key, subject_key, now_us)
    window_us = now_us + tools.request_window_us
    wrapped = tools.vault.wrap(data_key, bearer.token, subject_key)
    retry = Retry(request, parent.pepper, parent.verifier, child.verifier, wrapped, 0, window_us)
    after = family.replaced(changed, child, now_us, realm.policy.rotation_grace_us)
    after = replace(after, revision=before.revision + 1, retry=retry)
    items = list(bearer.stored.items.values())
    put = _sealed_anew(tools, before, [i for i in items if i.key[:1] in (DATA, REQUEST)], old_key, data_key)
    if new_owner is not None:
        shared = [tools.vault.shared_key(key, before.realm, before.handle) for key in (old_subject_key, subject_key)]
        of_shared = [i for i in items if i.key[:1] in _OF_SUBJECT]
        put += _sealed_anew(tools, before, of_shared, shared[0], shared[1])
    written = await tools.store.replace(
        before, after, put=put, key=kept_key, guard=guard(realm, now_us) if new_owner is not None else None
    )
    return Minted(text, after) if written else None


async def _again(tools: Tools, bearer: Bearer, retry: Retry) -> Minted | None:
    """The same rotation once more: the child that nobody received is nothing, another one takes its place."""
    session = bearer.session
    data_key, subject_key = await open_data_key(tools, bearer)
    token, text = tokens.remint(tools.keyring, bearer.token, tools.random)
    child = new_record(tools, token, data_key, subject_key, bearer.now_us)
    after = replace(family.minted_again(session, retry, child), revision=session.revision + 1)
    grace_us = retry.grace_us if retry.grace_us > bearer.now_us else 0
    return Minted(text, after, grace_us) if await tools.store.replace(session, after) else None


def _sealed_anew(tools: Tools, session: Session, items: Sequence[Item], old_key: bytes, new_key: bytes) -> list[Item]:
    vault, put = tools.vault, []
    for item in items:
        name, value = vault.open(old_key, session.realm, session.handle, item)
        sealed = vault.seal(new_key, session.realm, session.handle, item.key, item.version, name, value)
        put.append(sealed._replace(until_us=item.until_us))
    return put
