"""What stands in front of the store for the hot path: it may be a moment old, and no write is ever decided on it.

The moment is never longer than half of the realm's bound of revocations.
"""

from typing import Protocol

from services.session.domain.realms import Realm
from services.session.store.interface import Mark, Stored


class Hot(Protocol):
    """Raises what the store raises; never because a cache is away."""

    async def read(self, realm: Realm, handle: str) -> Stored:
        """As `Store.read` without items. Who is not plainly let in by it is judged by the store."""
        ...

    async def mark(self, realm: Realm, handle: str, subject: bytes) -> Mark | None:
        """See `Store.mark`."""
        ...

    def late_us(self, realm: Realm) -> int:
        """How long other servers of the same store may still let in whom this server's last writes shut out, in
        microseconds: 0 where all of them were told."""
        ...
