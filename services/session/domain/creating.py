"""Making sessions: who may have how many, and what a retry does with the session that nobody received."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from libs.errors.errors import InvalidArgument
from services.session.crypto import pseudonyms, tokens
from services.session.domain import abilities, hints
from services.session.domain.bearer import tombstone
from services.session.domain.errors import (
    AnonymousNotAllowed,
    AuthenticationRevoked,
    RequestReused,
    SessionLimit,
)
from services.session.domain.model import (
    ANONYMOUS,
    DATA,
    SHARED,
    Created,
    Epoch,
    Item,
    Session,
    TokenRecord,
)
from services.session.domain.operations import Limits, Operation, Totals, apply
from services.session.domain.policy import SECOND, Limit, Policy
from services.session.domain.readmission import check_turn
from services.session.domain.realms import Realm
from services.session.domain.tools import Tools, until_written
from services.session.store.interface import End, Guard, Stored

SKEW_US: Final = 60 * SECOND
"""How far ahead of this server's clock an authentication may claim to be."""
JITTER: Final = 1 / 64
"""The share of the absolute timeout by which sessions end early, so that those of one moment do not end in one."""


@dataclass(frozen=True, slots=True)
class Assurance:
    """How surely, by what, and when (microseconds; 0: now) somebody was authenticated."""

    level: int
    methods: tuple[str, ...]
    auth_us: int


class Client(NamedTuple):
    """What was told of the client: its address and agent (for hints), and the thumbprint of its key (to bind to)."""

    address: str = ""
    user_agent: str = ""
    bind: bytes = b""


NOT_TOLD: Final = Client()


class Minted(NamedTuple):
    """A session with the token's text, which exists nowhere else. `grace_us`: until when its parent is good, or 0."""

    token: bytes
    session: Session
    grace_us: int = 0


async def create(
    tools: Tools,
    realm: Realm,
    caller: str,
    subject: str,
    assurance: Assurance,
    data: Mapping[str, bytes],
    shared: Mapping[str, bytes],
    request_id: str,
    client: Client = NOT_TOLD,
) -> Minted:
    """A new session. `subject` empty: an anonymous one, with the level 0.

    Sent again (same caller, request_id and subject, within the window), it makes another session and ends the first.
    Raises DataTooLarge, SessionLimit, AnonymousNotAllowed, AuthenticationRevoked, Readmission, RequestReused,
    ServersOlder, InvalidArgument.
    """
    if client.bind:
        await abilities.check_everywhere(tools.store, abilities.BOUND)
    who = pseudonyms.pseudonym(tools.keyring, realm.name, subject) if subject else ANONYMOUS
    request = pseudonyms.request_name(tools.keyring, realm.name, caller, "Create", request_id)

    again = False

    async def attempt() -> Minted | None:
        nonlocal again
        now_us = tools.clock.now_us()
        current = tools.realms.get(realm.name) or realm
        # What it made before is asked for where it is needed here; the store ends it in any case.
        before = await tools.store.created_by(request) if again or who == ANONYMOUS else None
        again = True
        if before is not None and before.until_us > now_us and before.subject != who:
            raise RequestReused
        if who == ANONYMOUS:
            retry = before is not None and before.until_us > now_us
            await check_anonymous(tools, current, leaving=1 if retry else 0)
        check_turn(tools.keyring, current, who, request, now_us)
        epoch = await tools.store.subject_epoch(realm.name, who, looked_at_again=True)
        auth_us = checked_auth_us(assurance, current, epoch, now_us)
        subject_key, kept_key = await tools.vault.new_session_key(realm.name, who)
        token, text = tokens.mint(tools.keyring, realm.name, tools.home, tools.random)
        data_key = tools.vault.new_data_key()
        totals, items = _first_items(
            tools, realm.name, token.handle, current.policy, data_key, subject_key, data, shared
        )
        session = Session(
            realm=realm.name,
            handle=token.handle,
            revision=1,
            home=tools.datacentre,
            subject=who,
            level=assurance.level,
            methods=assurance.methods,
            auth_us=auth_us,
            created_us=now_us,
            active_us=now_us,
            ends_us=end_us(tools, current.policy, token.handle, assurance.level, auth_us),
            idle_us=current.policy.of_level(assurance.level).idle_us,
            tokens=(new_record(tools, token, data_key, subject_key, now_us),),
            stamp=current.epoch.counters,
            subject_stamp=epoch.counters,
            data_keys=totals.keys,
            data_bytes=totals.size_bytes,
            floor=totals.floor,
            bind=client.bind,
        )
        items += hints.sealed(tools, current.policy, session, subject_key, client.address, client.user_agent)
        kept = await tools.store.create(
            session,
            items,
            kept_key,
            request=request,
            created=Created(token.handle, who, max(now_us + tools.request_window_us, _behind_us(before))),
            guard=None if who == ANONYMOUS else guard(current, now_us),
            orphan=lambda created, orphan: _orphan(created, orphan, who, now_us, session),
        )
        return Minted(text, session) if kept else None

    minted = await until_written(attempt)
    tools.events.record("session_created", realm.name, handle=minted.session.handle, caller=caller)
    return minted


def checked_auth_us(assurance: Assurance, realm: Realm, epoch: Epoch, now_us: int) -> int:
    """When the authentication was. Raises for one in the future, or from before a revocation of all."""
    auth_us = assurance.auth_us or now_us
    if auth_us > now_us + SKEW_US:
        raise InvalidArgument.field("assurance.auth_time", "lies in the future; at most 60 s ahead is allowed")
    # Callers tell whole seconds: one in the second of the revocation is not older than it.
    if assurance.auth_us and auth_us + SECOND <= max(epoch.raised_us, realm.epoch.raised_us):
        raise AuthenticationRevoked("all sessions were revoked after this authentication; authenticate again")
    return min(auth_us, now_us)


def end_us(tools: Tools, policy: Policy, handle: str, level: int, auth_us: int) -> int:
    """The absolute end of a session, a little early by a share of its own; never late."""
    absolute_us = policy.of_level(level).absolute_us
    return auth_us + absolute_us - int(absolute_us * JITTER * pseudonyms.share(tools.keyring, handle))


def guard(realm: Realm, now_us: int) -> Guard | None:
    """Who of a subject's sessions goes for a new one; None when the realm does not limit them."""
    policy = realm.policy
    if not policy.max_sessions_per_subject:
        return None

    def decide(others: Sequence[Stored]) -> list[End]:
        live = [s.session for s in others if s.session is not None and realm.judge(s, now_us).live]
        over = len(live) + 1 - policy.max_sessions_per_subject
        if over <= 0:
            return []
        if policy.limit is Limit.REJECT:
            limit = policy.max_sessions_per_subject
            raise SessionLimit(f"the subject has {limit} sessions, as many as the realm allows")
        if policy.limit is Limit.EVICT_LEAST_RECENTLY_USED:
            live.sort(key=lambda session: session.active_us)
        return [tombstone(session, now_us, "limit") for session in live[:over]]

    return decide


async def check_anonymous(tools: Tools, realm: Realm, *, leaving: int = 0) -> None:
    """Raises when there is no room for one more anonymous session; `leaving` of them will be gone."""
    most = realm.policy.max_anonymous
    if most == 0:
        raise AnonymousNotAllowed("this realm has no anonymous sessions: a subject is required")
    if await tools.store.anonymous(realm.name) - leaving >= most:
        raise SessionLimit(f"there are {most} anonymous sessions, as many as the realm allows", retry_after_s=1.0)


def with_totals(session: Session, totals: Totals) -> Session:
    """The session with what it now holds."""
    return replace(session, data_keys=totals.keys, data_bytes=totals.size_bytes, floor=totals.floor)


def new_record(tools: Tools, token: tokens.Token, data_key: bytes, subject_key: bytes, now_us: int) -> TokenRecord:
    """What is kept of a new token."""
    pepper, verifier = tools.vault.new_verifier(token)
    return TokenRecord(pepper, verifier, now_us, 0, tools.vault.wrap(data_key, token, subject_key))


def _first_items(
    tools: Tools,
    realm: str,
    handle: str,
    policy: Policy,
    data_key: bytes,
    subject_key: bytes,
    data: Mapping[str, bytes],
    shared: Mapping[str, bytes],
) -> tuple[Totals, list[Item]]:
    totals = Totals(0, 0, 0)
    limits = Limits(policy.max_data_keys, policy.max_data_bytes)
    items: list[Item] = []
    shared_key = tools.vault.shared_key(subject_key, realm, handle) if shared else b""
    for kind, key, values in ((DATA, data_key, data), (SHARED, shared_key, shared)):
        if not values:
            continue
        changes = apply([Operation(name, set=value) for name, value in values.items()], {}, totals, limits)
        totals = changes.totals
        for name, value in changes.put.items():
            item = tools.vault.item_key(kind, realm, handle, name)
            items.append(tools.vault.seal(key, realm, handle, item, value.version, name, value.value))
    return totals, items


def _behind_us(before: Created | None) -> int:
    """The least window that is later than that of the one before, whatever the clock of its server."""
    return before.until_us + 1 if before is not None else 0


def _orphan(created: Created, orphan: Session | None, who: bytes, now_us: int, session: Session) -> End:
    if created.subject != who:
        raise RequestReused
    until_us = max(session.ends_us, orphan.ends_us if orphan is not None else 0)
    return End(created.handle, now_us, until_us, "orphan")
