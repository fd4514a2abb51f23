"""A proof of possession is good once: whoever copied a request with its proof cannot send it again.

What was seen is remembered for as long as it could be fresh: in a ledger, where several servers share one, or in
memory. Of memory, proofs made before this process began are refused, for another process may have seen them; the table
is bounded, and when it is full nobody is let in on a new proof, and only those who hold a bound session's token and key
can fill it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from services.session.crypto import dpop
from services.session.domain.errors import ProofNonceNeeded, ProofsBusy, SessionInvalid
from services.session.domain.policy import SECOND
from services.session.store.interface import Ledger

MAX_SEEN: Final = 500_000


@dataclass(slots=True, repr=False)
class Proof:
    """What came with one call. `retry` names a request that may be sent again with the same proof; empty: none may."""

    jwt: str
    method: str
    uri: str
    retry: str = ""
    accepted: bool = False


class Nonces(Protocol):
    """Those of a realm that asks for them."""

    def nonce(self, now_s: float) -> str:
        """The one of this moment."""
        ...

    def is_fresh(self, text: str, now_s: float) -> bool:
        """Whether it is one of now."""
        ...


class Proofs:
    """Proofs seen: by all who share the `ledger`, or by this process. `now_us` is the time that sessions live by."""

    def __init__(self, now_us: Callable[[], int], most: int = MAX_SEEN, ledger: Ledger | None = None) -> None:
        self._now_us = now_us
        self._most = most
        self._ledger = ledger
        self._began_s = now_us() // SECOND
        self._seen: dict[bytes, str] = {}
        self._order: deque[tuple[float, bytes]] = deque()

    async def check(
        self,
        proof: Proof | None,
        token: bytes,
        thumbprint: bytes,
        nonces: "Nonces | None" = None,
        home: str = "",
    ) -> None:
        """Raises SessionInvalid unless a proof by the session's key came with its token for the first time, ProofsBusy,
        and what the ledger of its `home` raises. With `nonces` it must carry one of them: who has token and key is told
        one (ProofNonceNeeded).

        Asked again within the same call it answers the same.
        """
        if proof is None:
            raise SessionInvalid
        if proof.accepted:
            return
        now_s = self._now_us() / SECOND
        try:
            claims = dpop.check(proof.jwt, proof.method, proof.uri, token, thumbprint, now_s)
        except dpop.ProofWrong:
            raise SessionInvalid from None
        if self._ledger is None and claims.made_s <= self._began_s:
            raise SessionInvalid
        if nonces is not None and not nonces.is_fresh(claims.nonce, now_s):
            raise ProofNonceNeeded(nonces.nonce(now_s))
        if self._ledger is None:
            self._spend(claims, proof.retry, now_s)
        elif not await self._ledger.spend(claims.name, proof.retry, dpop.LIFE_S + dpop.SKEW_S, home):
            raise SessionInvalid
        proof.accepted = True

    def _spend(self, claims: dpop.Claims, retry: str, now_s: float) -> None:
        while self._order and self._order[0][0] < now_s:
            del self._seen[self._order.popleft()[1]]
        seen = self._seen.get(claims.name)
        if seen is not None:
            if not retry or seen != retry:
                raise SessionInvalid
            return
        if len(self._seen) >= self._most:
            raise ProofsBusy("too many proofs of possession in a minute; nothing was done", retry_after_s=1.0)
        self._seen[claims.name] = retry
        # As long as any proof could be fresh, so that the order of arrival is the order of leaving.
        self._order.append((now_s + dpop.LIFE_S + dpop.SKEW_S, claims.name))
