"""Big declarations: thousands of edges a call, as pieces of long work that brief calls go before.

The edges of a call are one piece, because they become true together. What makes a piece really long are names that are
new: each costs five times as much as one that is known. While calls bring many of them, they are taken in before the
edges, a few hundred a piece.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from services.propagation.domain import edges
from services.propagation.domain.shard import Shard

_NAMES_AT_ONCE = 256
_MANY_NEW = 256
"""Taking so many new names in takes a millisecond or two."""


class BulkDeclarations:
    """The big declarations of one shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._many_new = True

    async def declare(
        self, declarations: Sequence[edges.Declaration], write: Callable[[], Awaitable[None]]
    ) -> Awaitable[None]:
        """Calls `write`, which writes the declarations, when it is its turn; answers what it does."""
        if self._many_new:
            await self._take_in_names(declarations)

        def piece() -> Awaitable[None]:
            before = self._shard.store.resource_count
            durable = write()
            new = self._shard.store.resource_count - before
            self._many_new = new > sum(len(one.names) for one in declarations) + _MANY_NEW
            return durable

        return await self._shard.long_work.turn(piece)

    async def _take_in_names(self, declarations: Sequence[edges.Declaration]) -> None:
        shard = self._shard
        for one in declarations:  # what is refused leaves no names behind
            edges.check_sizes(shard, shard.views.number(one.view_name), one.declared)
        new = 0
        for declared in [one.declared for one in declarations]:
            names, aspects = declared.names, declared.aspects
            for at in range(0, len(names), _NAMES_AT_ONCE):
                end = at + _NAMES_AT_ONCE
                some = aspects if isinstance(aspects, str) else aspects[at:end]
                new += await shard.long_work.turn(partial(edges.take_in_names, shard, names[at:end], some))
        self._many_new = new > _MANY_NEW
