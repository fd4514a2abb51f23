"""What opaque realms need of a store: values by name, last write wins, and a deletion beats every write.

A key has a name for each pepper that is known; callers give them all, the newest first. What is awaited is durable when
it returns.

Backends that are not one process: reads and writes at their local quorum; tombstones in a table of their own, read with
every value and outweighing it, so that a write which slipped past `allowed` still shows nothing.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from services.session.domain.opaque_model import OpaqueRow, OpaqueStored, OpaqueTombstone

Allowed = Callable[[OpaqueStored], bool]
"""Whether a value may be written over what stands at that moment."""


class OpaquePatrolled(NamedTuple):
    """A piece of the walk over the rows of all realms, each with its realm and its tombstone; `resume` is None when the
    walk has come round."""

    found: list[tuple[str, OpaqueStored]]
    resume: bytes | None


class OpaqueRows(Protocol):
    """A backend. Raises Unavailable, ResourceExhausted or DataLoss (libs.errors) when it cannot do what it says."""

    async def read(self, realm: str, names: Sequence[bytes]) -> OpaqueStored:
        """What stands under any of a key's names: of several the row written last, the tombstone that lasts longest."""
        ...

    async def write(self, realm: str, names: Sequence[bytes], row: OpaqueRow, allowed: Allowed) -> bool:
        """Keep `row` under its name, and nothing under the key's other names, if `allowed` says so of what is there."""
        ...

    async def delete(
        self, realm: str, names: Sequence[bytes], tombstone: OpaqueTombstone, *, known: bool = False
    ) -> bool:
        """Leave the tombstone under the newest name and no row under any; whether there was one. A tombstone that is
        there never ends sooner for it. `known`: other data centres know by themselves, of the realm's epoch."""
        ...

    async def patrol(self, resume: bytes | None, limit: int) -> OpaquePatrolled:
        """Walk over all rows, a piece at a time. The rows come without their sealed values."""
        ...

    async def remove(self, realm: str, rows: Sequence[OpaqueRow]) -> int:
        """Remove rows as a patrol found them; one that was written since stays. How many were removed. It may be
        durable only when the next `prune` is."""
        ...

    async def prune(self, now_us: int, limit: int) -> int:
        """Remove tombstones whose time is over; looks at about `limit`, going on where it stopped."""
        ...

    async def count(self, realm: str) -> int:
        """How many rows a realm keeps, expired ones that were not swept yet included."""
        ...

    async def uses_pepper(self, number: int) -> str | None:
        """A realm with a row or a tombstone under a name of this pepper; None when there is none. Walks over all."""
        ...

    async def keep_key(self, realm: str, subject: bytes, sealed: bytes, home: str) -> bool:
        """Keep a realm's fresh sealed key beside the subjects' keys of a home, as that of `subject`; False when it has
        one, or the keyring's key that sealed this one is being retired."""
        ...
