"""What a store over several data centres hears and says of revocations: the feed of each of them, by number.

`hear` makes what others revoked count here, `beat` lets them hear of what was revoked here. Both are called all the
time; what is told twice does no harm.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

from services.session.domain.model import Revocation
from services.session.domain.origins_model import Fence, Heard

Taken = Callable[[str, Sequence[str], Sequence[bytes]], Awaitable[None]]
"""Of a realm, sessions by handle and subjects."""


class Origins(Protocol):
    """Of a store in one data centre. Raises Unavailable when its own cannot be asked; another one that is away is not
    heard, and that is all. `taken`: told of what another one revoked when that counts here, and before anybody hears
    that it does."""

    taken: Taken

    @property
    def others(self) -> tuple[str, ...]:
        """The other data centres that keep sessions."""
        ...

    async def hear(self, origin: str) -> Heard | None:
        """Takes in what another one revoked; what it said last, None when that is nothing new."""
        ...

    async def beat(self, at_us: int, realms: Collection[str]) -> None:
        """Says up to which number revocations go here: of every realm that was there at `at_us`, read since."""
        ...

    async def revocations(self, realm: str, origin: str, after: int, limit: int) -> list[Revocation]:
        """Another data centre's revocations behind a number, in order, as far as all of them are here."""
        ...

    async def position(self, realm: str, origin: str) -> int:
        """Up to which number all is here that another data centre revoked."""
        ...

    async def fences(self) -> dict[str, Fence]:
        """Who is shut out, or was, as far as it is known here."""
        ...

    async def fence(self, datacentre: str, fence: Fence, reason: str) -> None:
        """Keeps whether a data centre is shut out; others hear it."""
        ...
