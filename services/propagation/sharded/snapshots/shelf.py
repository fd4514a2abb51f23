"""Where the snapshots of one shard lie: entries by name, and numbered parts of each name."""

from typing import Protocol

from libs.errors.errors import FailedPrecondition, Unavailable


class ShelfAway(Unavailable):
    """Where snapshots lie is not reached now: it is not known which there are."""

    default_reason = "SNAPSHOTS_UNAVAILABLE"


class ShelfRefused(FailedPrecondition):
    """Where snapshots should lie, this engine is refused, or there is no such place."""

    default_reason = "SNAPSHOTS_REFUSED"


class Shelf(Protocol):
    """All raise ShelfAway and ShelfRefused. What a put has answered is durable; a removal of what is not there is
    done."""

    place: str
    """For messages: which namespace, and what in it."""

    async def entries(self) -> dict[str, bytes]:
        """All entries by name, in the order of names."""

    async def put_entry(self, name: str, content: bytes) -> None:
        """Puts an entry, in place of the one that has its name."""

    async def remove_entry(self, name: str) -> None:
        """Removes it, not its parts."""

    async def put_part(self, name: str, at: int, content: bytes) -> None:
        """Puts part `at` of `name`."""

    async def part(self, name: str, at: int) -> bytes | None:
        """The part; None where there is none, or none that is undamaged."""

    async def remove_part(self, name: str, at: int) -> None:
        """Removes it."""
