"""How much an opaque realm keeps, so that it does not keep more than it may.

Counted once, before the first value that a limit is asked for, and then by this server's own writes: exact where one
server has the store. Where several share it, each round of the sweeper counts anew, and what others wrote is as old as
that. What is over and not swept yet counts: it lies there.
"""

import asyncio
from collections import defaultdict
from typing import Final

from services.session.domain.errors import RealmFull
from services.session.domain.opaque_model import OpaqueRow
from services.session.domain.realms import Realm
from services.session.store.opaque_interface import OpaqueRows

_AT_ONCE: Final = 500


class _Kept:
    """Values, and their sealed bytes."""

    __slots__ = ("size_bytes", "values")

    def __init__(self) -> None:
        self.values = self.size_bytes = 0

    def add(self, values: int, size_bytes: int) -> None:
        self.values += values
        self.size_bytes += size_bytes


class OpaqueUsage:
    """Of one server, by realm."""

    def __init__(self) -> None:
        self._known: defaultdict[str, _Kept] = defaultdict(_Kept)
        self._round: defaultdict[str, _Kept] = defaultdict(_Kept)
        self._counting = asyncio.Lock()
        self._counted = False

    async def ready(self, rows: OpaqueRows) -> None:
        """Counts all rows there are, if that was not done yet. Raises Unavailable."""
        async with self._counting:
            if self._counted:
                return
            found: defaultdict[str, _Kept] = defaultdict(_Kept)
            resume: bytes | None = None
            while True:
                piece = await rows.patrol(resume, _AT_ONCE)
                for name, stored in piece.found:
                    if stored.row is not None:
                        found[name].add(1, stored.row.stored_bytes)
                resume = piece.resume
                if resume is None:
                    break
                await asyncio.sleep(0)
            self._known, self._counted = found, True

    def take(self, realm: Realm, values: int, size_bytes: int) -> None:
        """Counts what is about to be written. Raises RealmFull, and counts nothing, when that is more than it may
        keep; what takes no more room than it frees is always taken."""
        known, policy = self._known[realm.name], realm.policy
        for more, there, most, what in (
            (values, known.values, policy.max_values, "values"),
            (size_bytes, known.size_bytes, policy.max_total_bytes, "bytes"),
        ):
            if most and more > 0 and there + more > most:
                raise RealmFull(f"the realm keeps {most} {what} at most", metadata={"limit": f"{most} {what}"})
        known.add(values, size_bytes)

    def changed(self, realm: str, values: int, size_bytes: int) -> None:
        """So much more (or, below 0, less) is there."""
        self._known[realm].add(values, size_bytes)

    def forget(self) -> None:
        """What is known is wrong: the next value that a limit is asked for has all counted anew."""
        self._counted = False

    def saw(self, realm: str, row: OpaqueRow) -> None:
        """A row of a round over all rows."""
        self._round[realm].add(1, row.stored_bytes)

    def came_round(self, *, shared: bool) -> None:
        """The end of a round: where servers share the store, what it saw is what there is."""
        if shared:
            self._known, self._counted = self._round, True
        self._round = defaultdict(_Kept)

    def kept(self, realm: str) -> tuple[int, int]:
        """Values and bytes of a realm, as they are known."""
        known = self._known[realm]
        return known.values, known.size_bytes
