"""Whether the front can work, found out by doing it: a write to the store, the keys that rows need, the realm.

Asked by whoever may connect, so that at most one look in a second is made, for all who ask.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from services.session.domain.policy import Kind
from services.session.domain.tools import Tools

_NOTE: Final = "kask_health"
FRESH_S: Final = 1.0
"""For so long an answer stands."""
_TIMEOUT_S: Final = 2.0


class Health:
    """`stopping()` says whether the process is about to end."""

    def __init__(self, tools: Tools, realm: str, stopping: Callable[[], bool]) -> None:
        self._tools = tools
        self._realm = realm
        self._stopping = stopping
        self._looking = asyncio.Lock()
        self._looked_s = float("-inf")
        self._store_works = False

    async def report(self) -> dict[str, str]:
        """Of each thing that the front stands on: "ok", or what is wrong."""
        return {
            "server": "stopping" if self._stopping() else "ok",
            "store": "ok" if await self._can_write() else "unavailable",
            "keyring": "ok" if self._has_keys() else "unusable",
            "realm": "ok" if self._has_realm() else "missing",
        }

    async def _can_write(self) -> bool:
        async with self._looking:
            clock = self._tools.clock.clock
            if clock.monotonic() - self._looked_s >= FRESH_S:
                self._store_works = await self._write()
                self._looked_s = clock.monotonic()
            return self._store_works

    async def _write(self) -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._tools.store.note({_NOTE: b"%d" % self._tools.clock.now_us()})
        except Exception:
            # Whatever it is: the store did not take a write. The store's own check tells the operator why.
            return False
        return True

    def _has_keys(self) -> bool:
        keyring = self._tools.keyring
        try:
            return all(keyring.active(purpose).secret for purpose in ("pepper", "seal"))
        except KeyError:
            return False

    def _has_realm(self) -> bool:
        realm = self._tools.realms.get(self._realm)
        return realm is not None and realm.policy.kind is Kind.OPAQUE
