"""What stands in front of the store for the hot path: it may be a moment old, and no write is ever decided on it.

The moment is never longer than the realm's bound of revocations, and stated. Who is not plainly let in by it is judged
by the store, so that it refuses nobody.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from services.session.domain.realms import Realm
from services.session.store.interface import Mark, Stored


class Hot(Protocol):
    """Of sessions that have their home here. Raises what the store raises; never because a cache is away."""

    async def read(self, realm: Realm, handle: str, keys: Sequence[bytes] = (), kinds: bytes = b"") -> Stored | None:
        """As `Store.read`; None when the store itself is to be asked."""
        ...

    async def mark(self, realm: Realm, handle: str, subject: bytes) -> Mark | None:
        """See `Store.mark`."""
        ...

    def late_us(self, realm: Realm) -> int:
        """How long other servers of the same store may still let in whom this server's last writes shut out, in
        microseconds: 0 where all of them were told."""
        ...

    def staleness_us(self, realm: Realm) -> int:
        """How old what is answered now may be, at most, in microseconds."""
        ...


class Following(Protocol):
    """Knows what a store says is revoked, by hearing of each revocation."""

    async def follow(self, at_us: int, realms: Collection[str]) -> None:
        """Takes in all that was revoked in these realms before `at_us` (the time that sessions live by). Raises
        Unavailable."""
        ...
