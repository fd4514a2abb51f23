"""The index that pages are told to once they changed (a view's calls), and the way of these calls to it.

The executor's targets, with their limits and breakers, are the shipped ones; only what carries a request is simulated.
The index keeps the newest version that it was told of: calls come late and twice.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from random import Random

from services.propagation.simulation.seeded.site import Place
from services.propagation.simulation.seeded.wire import Process
from services.propagation.targets.exchange import CONNECTION_LOST, Exchange
from services.propagation.targets.settings import TargetSettings
from services.propagation.targets.targets import Targets
from wellspring_client.errors import Unavailable

CALLED_VIEW = "html"
CALLS_TEXT = """\
    calls:
      - url: "http://index.test/pages"
        body: '{"page": "{resource}", "version": "{version}"}'
"""


class Index:
    """Versions by page."""

    def __init__(self) -> None:
        self.versions: dict[Place, bytes] = {}

    def tell(self, request: bytes) -> None:
        """A request, as it comes over the wire."""
        told = json.loads(request.partition(b"\r\n\r\n")[2])
        place = (CALLED_VIEW, told["page"])
        version = bytes.fromhex(told["version"])
        self.versions[place] = max(version, self.versions.get(place, b""))


class _Way:
    """One process's connections to the index."""

    def __init__(self, process: Process, index: Index, ended: Callable[[Sequence[Exchange]], None]) -> None:
        self._process = process
        self._index = index
        self._ended = ended
        # In order, and not a set: which of them is cancelled first must be the same in each run.
        self._tasks: dict[Exchange, asyncio.Task[None]] = {}

    def send(self, exchanges: Sequence[Exchange]) -> None:
        """Requests set out."""
        for exchange in exchanges:
            self._tasks[exchange] = asyncio.ensure_future(self._carry(exchange))

    def abort(self, exchange: Exchange) -> None:
        """Nobody waits for it any more."""
        task = self._tasks.pop(exchange, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Lets go of all."""
        for exchange in list(self._tasks):
            self.abort(exchange)

    async def _carry(self, exchange: Exchange) -> None:
        async def effect() -> None:
            self._index.tell(exchange.data)

        try:
            await self._process.exchange("call of the index", effect, repeatable=True)
            exchange.status = 200
        except Unavailable as error:
            exchange.error, exchange.detail = CONNECTION_LOST, error.message
        if self._tasks.pop(exchange, None) is not None:
            self._ended([exchange])


def targets_of(process: Process, index: Index) -> Targets:
    """What a process calls."""

    def make(_: TargetSettings, ended: Callable[[Sequence[Exchange]], None]) -> _Way:
        return _Way(process, index, ended)

    return Targets(make_sender=make, rng=Random(process.rng.random()))  # noqa: S311  a seeded simulation
