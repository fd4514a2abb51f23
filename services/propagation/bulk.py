"""Big declarations: thousands of edges a call, as pieces of long work that brief calls go before.

The edges of a call are one piece, because they become true together. Their names are numbered before, in pieces of
their own: that changes nothing that anybody could see. It is half of the work, or nearly all where names are new.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import numpy as np

from services.propagation.domain import edges
from services.propagation.domain.edges import Declaration
from services.propagation.domain.shard import Shard
from services.propagation.store.interface import Numbers

_NAMES_AT_ONCE = 500
"""They take 0.1 ms when they are known, 2 ms when all are new."""
_PIECE_S = 0.001


class BulkDeclarations:
    """The big declarations of one shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    async def declare(
        self, declarations: Sequence[Declaration], write: Callable[[Sequence[Declaration]], Awaitable[None]]
    ) -> Awaitable[None]:
        """Calls `write` with the declarations, their names numbered, when it is its turn; answers what it does."""
        for one in declarations:  # what is refused leaves no names behind
            edges.check_sizes(self._shard, self._shard.views.number(one.view_name), one.declared)
        numbered = [await self._numbered(one) for one in declarations]
        return await self._shard.long_work.turn(partial(write, numbered))

    async def _numbered(self, one: Declaration) -> Declaration:
        declared = one.declared
        dependents = await self._in_pieces(len(one.names), partial(self._dependents, one.names))
        inputs = await self._in_pieces(len(declared.names), partial(self._inputs, declared))
        return dataclasses.replace(one, declared=dataclasses.replace(declared, dependents=dependents, inputs=inputs))

    async def _in_pieces(self, count: int, number: Callable[[slice], Numbers]) -> Numbers:
        """What `number` gives for 0..count - 1, a slice at a time, as long as a piece may take."""
        found: list[Numbers] = [np.empty(0, np.uint32)]
        at = 0

        def piece() -> None:
            nonlocal at
            ends_s = self._shard.now_s() + _PIECE_S
            while at < count:
                found.append(number(slice(at, at + _NAMES_AT_ONCE)))
                at += _NAMES_AT_ONCE
                if self._shard.now_s() >= ends_s:
                    return

        while at < count:
            await self._shard.long_work.turn(piece)
        return np.concatenate(found)

    def _dependents(self, names: list[bytes], some: slice) -> Numbers:
        return edges.number_resources(self._shard, names[some])

    def _inputs(self, declared: edges.Declared, some: slice) -> Numbers:
        aspects = declared.aspects
        return edges.number_inputs(
            self._shard, declared.names[some], aspects if isinstance(aspects, str) else aspects[some]
        )
