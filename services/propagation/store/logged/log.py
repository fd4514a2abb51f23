"""What a store asks of the log that its commits are records of."""

from asyncio import Future
from collections.abc import Sequence
from typing import Protocol

from services.propagation.store.logged.place import Anchor
from services.propagation.store.logged.records import Position


class CommitLog(Protocol):
    """One shard's log, open for its owner. All of it is called on the event loop."""

    def check(self, size_bytes: int) -> None:
        """Raises why a commit of that size cannot be appended now: nothing must be applied then."""

    def append(self, position: Position, records: Sequence[bytes]) -> "Future[None]":
        """Appends the records of the commit at `position`, all or none, behind all that was appended before.

        Done when they are as durable as the log makes them. It fails when that is not so, or not known; then nothing
        that was appended later is in the log either, and `check` raises from then on.
        """

    def barrier(self) -> "Future[None]":
        """Done when all that was appended so far is durable, and nobody else owned the shard when this was called;
        fails as `append` does."""

    @property
    def anchor(self) -> Anchor:
        """The newest commit that is durable; before the first one, the word of its owner."""

    async def close(self) -> None:
        """Waits for what is under way, then ends. `check` raises from then on."""
