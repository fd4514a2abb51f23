"""Proofs of possession that any server has seen: one of several that spend the same proof is the first.

A row of `requests` for each, at its session's home, under a name that no request has; it goes by its time to live.
"""

import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from services.session.cassandra.cluster import ATTEMPTS, Cluster
from services.session.domain.errors import Contended

_SPENDER_BYTES: Final = 8
_RETRY_BYTES: Final = 16
MARGIN_S: Final = 600
"""Rows are kept longer than a proof is fresh by this, in which servers' clocks may be apart."""


class SpentProofs:
    """See `store.interface.Ledger`. `ask(home)` is the cluster as that data centre sees it."""

    def __init__(self, ask: Callable[[str], Cluster]) -> None:
        self._ask = ask

    async def spend(self, name: bytes, retry: str, life_s: int, home: str = "") -> bool:
        """See `Ledger.spend`. Raises OutcomeUnknown as well."""
        cluster = self._ask(home)
        row, spender = b"proof\0" + name, secrets.token_bytes(_SPENDER_BYTES)
        wish = sha256(retry.encode()).digest()[:_RETRY_BYTES] if retry else b""
        write = cluster.write("first_request", row, spender + wish, life_s + MARGIN_S)

        async def look() -> bool:
            return await _spent(cluster, row) == spender + wish

        for _ in range(ATTEMPTS):
            if await cluster.decide([write], look):
                return True
            there = await _spent(cluster, row)
            if there is not None:
                return bool(wish) and there[_SPENDER_BYTES:] == wish
        raise Contended("a proof of possession could not be noted; nothing was done", retry_after_s=0.1)


async def _spent(cluster: Cluster, row: bytes) -> bytes | None:
    rows = await cluster.decided_rows("request", row)
    return bytes(rows[0][0]) if rows else None
