"""From the text of a token to its session, or to the one public failure.

The order: form, realm and tag (no read so far), then one read, the verifier in constant time, revocation, expiry. An
unknown session takes the same steps against a verifier that nothing matches.
"""

import hmac
from collections.abc import Callable, Sequence
from typing import NamedTuple

from services.session.crypto import nonces, tokens
from services.session.crypto.keyring import Keyring
from services.session.crypto.tokens import Token
from services.session.domain import family, homes
from services.session.domain.cookies import wanted
from services.session.domain.errors import SessionInvalid, TokenMalformed
from services.session.domain.family import Check, Standing
from services.session.domain.hot import Hot
from services.session.domain.model import Retry, Session, TokenRecord
from services.session.domain.proofs import Proof
from services.session.domain.realms import Realm
from services.session.domain.tools import Tools
from services.session.domain.vault import Vault
from services.session.store.interface import End, Stored

Named = tuple[Token, Sequence[bytes]]


class Bearer(NamedTuple):
    """Somebody who holds a good token. `retry` is set when the token is good for repeating its last rotation only."""

    token: Token
    session: Session
    record: TokenRecord | None
    retry: Retry | None
    stored: Stored
    now_us: int

    @property
    def good(self) -> TokenRecord:
        """The record of the token presented, which `identify` without a request always gives."""
        if self.record is None:
            raise SessionInvalid
        return self.record


_NOBODY = Session(
    realm="", handle="", revision=0, home="", subject=b"", level=0, methods=(), auth_us=0, created_us=0, active_us=0,
    ends_us=0, idle_us=0, stamp=(), subject_stamp=(), tokens=(TokenRecord(1, bytes(32), 0, 0, b""),),
)  # fmt: skip


def read_token(tools: Tools, realm: Realm, text: bytes, path: str = "token") -> Token:
    """The token, which this service minted for this realm. Raises TokenMalformed, SessionInvalid."""
    try:
        token = tokens.parse(text)
    except tokens.Malformed:
        raise TokenMalformed(path) from None
    ours = tokens.is_ours(tools.keyring, token)
    if not ours or token.realm != realm.name:
        raise SessionInvalid
    return token


def checker(vault: Vault, token: Token) -> Check:
    """Compares the token with stored verifiers, in constant time; the HMAC of a pepper is made once."""
    made: dict[int, bytes] = {}

    def check(pepper: int, stored: bytes) -> bool:
        own = made.get(pepper)
        if own is None:
            own = made[pepper] = vault.verifier(pepper, token) or b""
        return hmac.compare_digest(own[: len(stored)], stored)

    return check


async def identify(
    tools: Tools,
    realm: Realm,
    text: bytes,
    *,
    caller: str,
    path: str = "token",
    keys: Callable[[Token], Sequence[bytes]] | None = None,
    kinds: bytes = b"",
    request: bytes | None = None,
    proof: Proof | None = None,
    decided: bool = False,
    cookie: str = "",
) -> Bearer:
    """The bearer, with the items of `keys(token)` and of `kinds` read along. `decided`: as the session is at its home,
    to be changed; `cookie`: as new as it says at least.

    Of a bound session `proof` must be good as well. With `request` (the name of a rotation), the parent whose rotation
    that was may come again, no longer good or not.
    Raises TokenMalformed, SessionInvalid, ProofNonceNeeded, ProofsBusy, HomeUnreachable. A token of before, used after
    its grace, ends its whole family.
    """
    token = read_token(tools, realm, text, path)
    check, least = checker(tools.vault, token), wanted(cookie, token.handle)

    def good(stored: Stored) -> bool:
        now_us = tools.clock.now_us()
        verdict = realm.judge(stored, now_us)
        if decided or stored.session is None or not verdict.live:
            return verdict.revoked
        return stored.session.revision >= least and family.present(stored.session, check, now_us).record is not None

    names, home = keys(token) if keys else (), tools.home_of(token.home)
    stored = await homes.read(tools, realm.name, token.handle, names, kinds, home=home, good=good)
    now_us = tools.clock.now_us()
    presented = family.present(stored.session or _NOBODY, check, now_us)
    # An epoch raised while the store was read counts.
    realm = tools.realms.get(realm.name) or realm
    if stored.session is None or not realm.judge(stored, now_us).live:
        raise SessionInvalid
    bind = stored.session.bind
    if request is not None:
        retry = family.retried(stored.session, request, check, now_us)
        if retry is not None:
            if bind:
                await _check_proof(tools, realm, proof, text, stored.session)
            return Bearer(token, stored.session, None, retry, stored, now_us)
    if presented.standing is Standing.STOLEN:
        await _stolen(tools, stored.session, now_us, caller)
        raise SessionInvalid
    if presented.record is None:
        raise SessionInvalid
    if bind:
        await _check_proof(tools, realm, proof, text, stored.session)
    return Bearer(token, stored.session, presented.record, None, stored, now_us)


async def glance(
    tools: Tools,
    hot: Hot,
    realm: Realm,
    text: bytes,
    keys: Callable[[Token], Sequence[bytes]] | None = None,
    kinds: bytes = b"",
) -> Bearer | None:
    """The bearer of a token, by what stands in front of the store; None for one who is not plainly good by that, and is
    to be identified. Items as by `identify`. Raises TokenMalformed, SessionInvalid."""
    token = read_token(tools, realm, text)
    if tools.home_of(token.home) != tools.datacentre:
        return None
    stored = await hot.read(realm, token.handle, keys(token) if keys else (), kinds)
    if stored is None or stored.session is None or stored.session.bind:
        return None
    now_us = tools.clock.now_us()
    presented = family.present(stored.session, checker(tools.vault, token), now_us)
    realm = tools.realms.get(realm.name) or realm
    if presented.record is None or not realm.judge(stored, now_us).live:
        return None
    return Bearer(token, stored.session, presented.record, None, stored, now_us)


class _RealmNonces:
    """See `proofs.Nonces`."""

    def __init__(self, keyring: Keyring, realm: str) -> None:
        self._keyring = keyring
        self._realm = realm

    def nonce(self, now_s: float) -> str:
        return nonces.nonce(self._keyring, self._realm, now_s)

    def is_fresh(self, text: str, now_s: float) -> bool:
        return nonces.is_fresh(self._keyring, self._realm, text, now_s)


async def _check_proof(tools: Tools, realm: Realm, proof: Proof | None, text: bytes, session: Session) -> None:
    wanted = _RealmNonces(tools.keyring, realm.name) if realm.policy.proof_nonces else None
    await tools.proofs.check(proof, text, session.bind, wanted, session.home)


def tombstone(session: Session, at_us: int, cause: str) -> End:
    """What ends a session: kept until nothing that was ever written of it could live."""
    return End(session.handle, at_us, max(session.ends_us, at_us), cause)


async def _stolen(tools: Tools, session: Session, now_us: int, caller: str) -> None:
    await tools.store.end(session.realm, [tombstone(session, now_us, "theft")])
    tools.events.record("session_theft", session.realm, handle=session.handle, caller=caller)
