"""Small plain writes of several callers that come together are one request.

What a request costs a node and its driver is for the most part the request. Callers take turns (``turns.py``): all who
wait go together, in as many unlogged batches as the nodes' limits make of them. They are not gathered by replica: a
caller's writes are of several partitions, each with replicas of its own.

Each caller has his own outcome. A batch of several that fails, or takes half of the time that there is, is followed by
one for each of them, which is the same once more: writes bring their own times. For a while batches are smaller then.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from libs.cassandra.limits import BatchLimits
from libs.cassandra.options import Options
from libs.cassandra.session import Row, Statement
from libs.cassandra.turns import PATIENCE_S, Turns, Work, answered, fail, settle
from libs.errors.errors import WellspringError

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
        self._most = _MOST
        self._waiting: list[_Load] = []
        self._turns = Turns(self._waiting, self._take, _nothing, patience_s=patience_s)

    async def write(self, writes: Sequence[Write], *, size_bytes: int, partitions: int) -> None:
        """All of these, each partition's for itself. They are idempotent: each brings its time, and none has a
        condition. ``size_bytes``: about what their rows hold; ``partitions``: of how many they are. Raises as
        ``Session.batch``."""
        load = _Load(writes, size_bytes, partitions, asyncio.get_running_loop().create_future())
        self._waiting.append(load)
        self._turns.came()
        await load.done

    def _take(self) -> Work | None:
        loads = [load for load in self._waiting if not load.done.done()]
        self._waiting.clear()
        return self._send(self._bundles(loads)) if loads else None

    async def _send(self, bundles: Sequence[list[_Load]]) -> None:
        if len(bundles) == 1:
            await self._run(bundles[0])
        else:
            await asyncio.gather(*map(self._run, bundles))

    def _bundles(self, loads: Sequence[_Load]) -> list[list[_Load]]:
        bundles: list[list[_Load]] = []
        size = partitions = 0
        for load in loads:
            size, partitions = size + load.size_bytes, partitions + load.partitions
            over = size > self._limits.bytes or partitions > self._limits.partitions
            if not bundles or over or len(bundles[-1]) >= self._most:
                bundles.append([])
                size, partitions = load.size_bytes, load.partitions
            bundles[-1].append(load)
        return bundles

    async def _run(self, bundle: list[_Load]) -> None:
        timeout_s = self._session.options.request_timeout_s
        with answered([load.done for load in bundle]):
            if len(bundle) == 1:
                await self._alone(bundle[0], timeout_s)
                self._grow()
            elif not await self._together(bundle, timeout_s / 2):
                left = [load for load in bundle if not load.done.done()]
                await asyncio.gather(*(self._alone(load, timeout_s / 2) for load in left))

    async def _together(self, bundle: Sequence[_Load], timeout_s: float) -> bool:
        """Whether all was written."""
        writes = [write for load in bundle for write in load.writes]
        try:
            await self._session.batch(writes, self._consistency, timeout_s=timeout_s)
        except WellspringError:
            self._most = max(1, len(bundle) // 2)
            return False
        self._grow()
        settle([load.done for load in bundle], None)
        return True

    async def _alone(self, load: _Load, timeout_s: float) -> None:
        try:
            await self._session.batch(load.writes, self._consistency, timeout_s=timeout_s)
        except Exception as error:
            fail([load.done], error)
        else:
            settle([load.done], None)

    def _grow(self) -> None:
        self._most = min(self._most + 1, _MOST)


def _nothing() -> None:
    """There is one queue, which stays."""
