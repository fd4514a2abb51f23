"""Small plain writes of several callers that come together are one request.

What a request costs a node and its driver is for the most part the request. Callers take turns (``turns.py``), in
unlogged batches as large as the nodes' limits let them be. They are not gathered by replica: a caller's writes are of
several partitions, each with replicas of its own.

Each caller has his own outcome (``sharing.py``). What is sent again for each of them after a batch of several failed is
the same once more: writes bring their own times.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from libs.cassandra.limits import BatchLimits
from libs.cassandra.options import Options
from libs.cassandra.session import Row, Statement
from libs.cassandra.sharing import Shared
from libs.cassandra.turns import PATIENCE_S, Turns, Work

_MOST: Final = 100
"""Callers in one batch, whatever the nodes allow."""

Write = tuple[Statement, Sequence[Any]]


class Asked(Protocol):
    """What is written to: a ``Session``."""

    @property
    def options(self) -> Options: ...

    async def batch(
        self, writes: Sequence[Write], consistency: int, *, timeout_s: float | None = None
    ) -> list[Row]: ...


class _Load(NamedTuple):
    """What one caller brought, and who waits for it."""

    writes: Sequence[Write]
    size_bytes: int
    partitions: int
    done: "asyncio.Future[None]"


class Bundled:
    """Writes of one session, at one consistency. All methods belong to its event loop."""

    def __init__(
        self, session: Asked, consistency: int, limits: BatchLimits, *, patience_s: float = PATIENCE_S
    ) -> None:
        """``limits``: of a batch over several partitions (see ``batch_limits``)."""
        self._session = session
        self._consistency = consistency
        self._limits = limits
        self._shared: Shared[_Load] = Shared(_MOST, waiting=_waiting, alone=self._alone, together=self._together)
        self._waiting: list[_Load] = []
        self._turns = Turns(self._waiting, self._take, _nothing, full=self._full, patience_s=patience_s)

    async def write(self, writes: Sequence[Write], *, size_bytes: int, partitions: int) -> None:
        """All of these, each partition's for itself. They are idempotent: each brings its time, and none has a
        condition. ``size_bytes``: about what their rows hold; ``partitions``: of how many they are. Raises as
        ``Session.batch``."""
        load = _Load(writes, size_bytes, partitions, asyncio.get_running_loop().create_future())
        self._waiting.append(load)
        self._turns.came()
        await load.done

    def _full(self) -> bool:
        """Whether one more like the last would be too many for one batch."""
        return self._fitting([*self._waiting, self._waiting[-1]]) <= len(self._waiting)

    def _take(self) -> Work | None:
        taken = self._waiting[: self._fitting(self._waiting)]
        del self._waiting[: len(taken)]
        loads = [load for load in taken if not load.done.done()]
        return self._shared.run(loads, self._session.options.request_timeout_s) if loads else None

    def _fitting(self, loads: Sequence[_Load]) -> int:
        """How many of them go into one batch, from the first one on; at least one does."""
        size = partitions = 0
        for number, load in enumerate(loads):
            size, partitions = size + load.size_bytes, partitions + load.partitions
            over = size > self._limits.bytes or partitions > self._limits.partitions
            if (over and number) or number == self._shared.most:
                return number
        return len(loads)

    async def _together(self, loads: Sequence[_Load], timeout_s: float) -> list[None]:
        writes = [write for load in loads for write in load.writes]
        await self._session.batch(writes, self._consistency, timeout_s=timeout_s)
        return [None] * len(loads)

    async def _alone(self, load: _Load, timeout_s: float) -> None:
        await self._session.batch(load.writes, self._consistency, timeout_s=timeout_s)


def _waiting(load: _Load) -> "list[asyncio.Future[None]]":
    return [load.done]


def _nothing() -> None:
    """There is one queue, which stays."""
