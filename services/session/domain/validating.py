"""The hot path: is this token good, and for whom? One read; a write only when an activity is to be noted."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from libs.errors.errors import Unavailable
from services.session.crypto.tokens import Token
from services.session.domain import homes
from services.session.domain.bearer import Bearer, glance, identify
from services.session.domain.errors import DataKeyDenied, SessionInvalid, SessionNotFound
from services.session.domain.model import DATA, SHARED, Session, TokenRecord
from services.session.domain.operations import Value, check_key
from services.session.domain.policy import Policy
from services.session.domain.proofs import Proof
from services.session.domain.realms import Realm
from services.session.domain.tools import Tools
from services.session.domain.validity import Verdict

ALL = "*"


class Validated(NamedTuple):
    """A live session, the values asked for by name, and whether its token should be rotated."""

    session: Session
    data: dict[str, Value]
    rotate_hint: bool
    bearer: Bearer


def check_data_keys(keys: Sequence[str]) -> None:
    """Raises InvalidArgument for what cannot be asked for."""
    for at, key in enumerate(keys):
        if key != ALL:
            check_key(key, f"data_keys[{at}]")


def readable(policy: Policy, caller: str, method: str, keys: Sequence[str]) -> None:
    """Raises DataKeyDenied for a key that the realm hides from the caller; ALL is what the caller may see."""
    for key in keys:
        if key != ALL and not policy.visible(caller, method, key):
            raise DataKeyDenied("the realm hides a data key from this caller", metadata={"key": key})


async def validate(
    tools: Tools,
    realm: Realm,
    caller: str,
    text: bytes,
    *,
    touch: bool = False,
    data_keys: Sequence[str] = (),
    proof: Proof | None = None,
    hot: bool = False,
    cookie: str = "",
) -> Validated:
    """`cookie`: what is answered is as new as it says. `hot`: what stands in front of the store may answer. Raises
    TokenMalformed, SessionInvalid, DataKeyDenied, HomeUnreachable."""
    readable(realm.policy, caller, "Validate", data_keys)
    everything = ALL in data_keys

    def keys(token: Token) -> list[bytes]:
        return [tools.vault.item_key(DATA, realm.name, token.handle, key) for key in data_keys if key != ALL]

    asked, kinds = keys if data_keys else None, DATA if everything else b""
    bearer = None
    if hot and tools.hot is not None and not (cookie or proof is not None):
        bearer = await glance(tools, tools.hot, realm, text, asked, kinds)
    bearer = bearer or await identify(
        tools, realm, text, caller=caller, keys=asked, kinds=kinds, proof=proof, cookie=cookie
    )
    data = await _open(tools, realm, caller, bearer) if bearer.stored.items else {}
    session = bearer.session
    if touch:
        session = await _touch(tools, realm.policy, bearer)
    record = bearer.good
    hint = record.dies_us == 0 and bearer.now_us >= record.issued_us + realm.policy.rotation_interval_us
    return Validated(session, data, hint, bearer)


async def find(tools: Tools, realm: Realm, handle: str) -> Session:
    """A live session by its public handle. Raises SessionNotFound, for a dead one too."""
    stored = await homes.find(tools, realm.name, handle)
    if stored.session is None or not realm.judge(stored, tools.clock.now_us()).live:
        raise SessionNotFound
    return stored.session


async def inspect(tools: Tools, realm: Realm, handle: str) -> tuple[Session | None, Verdict, str]:
    """A session as an operator sees it: what it is, dead or alive, since when, and why where it was ended by itself."""
    stored = await homes.find(tools, realm.name, handle)
    cause = stored.tombstone.cause if stored.tombstone is not None else ""
    return stored.session, realm.judge(stored, tools.clock.now_us()), cause


async def shared_values(
    tools: Tools, realm: Realm, caller: str, handle: str, names: Sequence[str]
) -> tuple[Session, dict[str, Value]]:
    """A live session by its handle, with values of its shared compartment. Raises SessionNotFound, DataKeyDenied."""
    readable(realm.policy, caller, "Get", names)
    keys = [tools.vault.item_key(SHARED, realm.name, handle, name) for name in names if name != ALL]
    stored = await homes.find(tools, realm.name, handle, keys, SHARED if ALL in names else b"")
    session = stored.session
    if session is None or not realm.judge(stored, tools.clock.now_us()).live:
        raise SessionNotFound
    found = await tools.vault.session_key(session)
    if found is None:
        raise SessionNotFound
    key = tools.vault.shared_key(found[0], realm.name, handle)
    values = {}
    for item in stored.items.values():
        name, value = tools.vault.open(key, realm.name, handle, item)
        if realm.policy.visible(caller, "Get", name):
            values[name] = Value(value, item.version)
    return session, values


async def open_data_key(tools: Tools, bearer: Bearer) -> tuple[bytes, bytes]:
    """The session's data key and its subject's key. Raises SessionInvalid when the subject was erased meanwhile."""
    session = bearer.session
    found = await tools.vault.session_key(session)
    if found is None:
        raise SessionInvalid
    wrapped = bearer.retry.wrapped if bearer.retry is not None else bearer.good.wrapped
    return tools.vault.unwrap(wrapped, bearer.token, found[0]), found[0]


async def _open(tools: Tools, realm: Realm, caller: str, bearer: Bearer) -> dict[str, Value]:
    data_key, _ = await open_data_key(tools, bearer)
    values = {}
    for item in bearer.stored.items.values():
        name, value = tools.vault.open(data_key, realm.name, bearer.session.handle, item)
        if realm.policy.visible(caller, "Validate", name):
            values[name] = Value(value, item.version)
    return values


def touch_due_us(session: Session, record: TokenRecord, policy: Policy) -> int:
    """From when on an activity with this token is to be written (microseconds; 0: at once)."""
    if _is_first_use(session, record):
        return 0
    return session.active_us + min(policy.touch_interval_us, policy.of_level(session.level).idle_us // 4)


def _is_first_use(session: Session, record: TokenRecord) -> bool:
    return session.retry is not None and session.retry.child == record.verifier


async def _touch(tools: Tools, policy: Policy, bearer: Bearer) -> Session:
    """Notes the activity, at most once a touch interval (and often enough for the idle timeout to mean something).

    A touch that loses to another change of the session is left out: the next one will do. So is one whose home does not
    answer: the session may end the earlier for it.
    """
    session = bearer.session
    if bearer.now_us < touch_due_us(session, bearer.good, policy):
        return session
    used = _is_first_use(session, bearer.good)
    touched = replace(
        session,
        revision=session.revision + 1,
        active_us=max(session.active_us, bearer.now_us),
        # Whoever uses the child received it: its parent can ask for no other.
        retry=None if used else session.retry,
    )
    try:
        return touched if await tools.store.replace(session, touched) else session
    except Unavailable:
        if homes.is_elsewhere(tools, session):
            return session
        raise
