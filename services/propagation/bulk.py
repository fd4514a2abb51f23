"""Big declarations: thousands of edges a call, as pieces of long work that brief calls go before.

Names are numbered first: that changes nothing that anybody could see, and is half of the work, or nearly all where
names are new. What a call can be refused for is looked at next, then its edges are written, each dependent's set whole.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import numpy as np

from services.propagation.domain import edges
from services.propagation.domain.edges import Declaration
from services.propagation.domain.shard import Shard
from services.propagation.store.interface import Numbers

_PIECE_S = 0.001
_LEAST_NAMES, _MOST_NAMES = 250, 4_000
"""Numbered at once: 500 take 0.1 ms when they are known, 2 ms when all are new."""
_EDGES_AT_ONCE = 2_000
"""They take 2 to 4 ms; half as many cost a third more each."""


class BulkDeclarations:
    """The big declarations of one shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    async def declare(
        self, declarations: Sequence[Declaration], change: Callable[[Declaration, bool], Awaitable[None]]
    ) -> None:
        """Calls `change`, which answers when it is durable, with parts of the declarations, and whether it is the last
        one; ends when all are durable.

        Either no part is refused or none is given to `change`. Raises as edges.numbered does.
        """
        for one in declarations:  # what is refused leaves no names behind
            edges.check_sizes(self._shard, self._shard.views.number(one.view_name), one.declared)
        numbered = [await self._numbered(one) for one in declarations]
        parts = [part for one in numbered for part in edges.parts(one, _EDGES_AT_ONCE)]
        await self.in_turns(len(parts), lambda at: change(parts[at], at == len(parts) - 1))

    async def in_turns(self, count: int, change: Callable[[int], Awaitable[None]]) -> None:
        """Calls `change` with 0..count - 1, a millisecond of them at a time; ends when all of it is durable."""
        durable: list[Awaitable[None]] = []

        def step(at: int) -> int:
            durable.append(change(at))
            return at + 1

        await self._steps(count, step)
        for one in durable:
            await one

    async def _steps(self, count: int, step: Callable[[int], int]) -> None:
        """Calls `step` with where it came to, from 0 on until that is `count`, a piece of such calls at a time."""
        at = 0

        def piece() -> None:
            nonlocal at
            ends_s = self._shard.now_s() + _PIECE_S
            while at < count:
                at = step(at)
                if self._shard.now_s() >= ends_s:
                    return

        while at < count:
            await self._shard.long_work.turn(piece)

    async def _numbered(self, one: Declaration) -> Declaration:
        names, aspects = one.declared.names, one.declared.aspects
        dependents = await self._numbers(len(one.names), partial(self._dependents, one.names))
        inputs = await self._numbers(len(names), partial(self._inputs, names, aspects))
        return await self._shard.long_work.turn(partial(edges.numbered, self._shard, one, dependents, inputs))

    async def _numbers(self, count: int, number: Callable[[slice], Numbers]) -> Numbers:
        """What `number` gives for 0..count - 1, as many at a time as a piece may take by what the last ones took."""
        found: list[Numbers] = [np.empty(0, np.uint32)]
        at_once = _LEAST_NAMES

        def step(at: int) -> int:
            nonlocal at_once
            began_s = self._shard.now_s()
            found.append(number(slice(at, at + at_once)))
            done = at + at_once
            fitting = at_once * _PIECE_S / max(self._shard.now_s() - began_s, 1e-6)
            at_once = int(min(max(fitting, _LEAST_NAMES), 2 * at_once, _MOST_NAMES))
            return done

        await self._steps(count, step)
        return np.concatenate(found)

    def _dependents(self, names: list[bytes], some: slice) -> Numbers:
        return edges.number_resources(self._shard, names[some])

    def _inputs(self, names: list[bytes], aspects: list[str] | str, some: slice) -> Numbers:
        return edges.number_inputs(self._shard, names[some], aspects if isinstance(aspects, str) else aspects[some])
