"""What takes the changes that followers read: an engine, or all shards of a fleet."""

from typing import Protocol

from services.propagation.domain.change import Change
from services.propagation.domain.engine import Engine


class Changes(Protocol):
    """Of one follower, in the order of its feed."""

    async def take(self, change: Change) -> None:
        """Takes the change, now or with the next `settle`. Raises ChangeIdReused, and Unavailable and
        ResourceExhausted, after which it is to be given again."""

    async def settle(self) -> None:
        """Afterwards a cursor may be written behind all that was taken. Raises as `take`; then it is to be called
        again."""


class EngineChanges:
    """See `Changes`: the engine's own commits are in order, and so is the cursor's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def take(self, change: Change) -> None:
        """Accepts it at once."""
        self._engine.publish(change)

    async def settle(self) -> None:
        """Nothing waits."""
