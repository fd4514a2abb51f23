"""Changes of bound namespaces for all shards: gathered, and durable in each before a cursor is written behind them."""

import logging

from google.rpc import status_pb2  # type: ignore[import-untyped]

from libs.errors.errors import Code, Unavailable
from libs.telemetry.logs import fields
from services.propagation import messages
from services.propagation.domain.change import Change
from services.propagation.fleet.calls import own_call
from services.propagation.fleet.shards import Shards, whole
from wellspring.propagation.v1 import propagation_pb2

log = logging.getLogger(__name__)

_TOGETHER = 200
_PATIENCE_S = 30.0
_AGAIN_S = 0.5
_LATER = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)


class FleetChanges:
    """See `intake.changes.Changes`."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._waiting: list[Change] = []

    async def take(self, change: Change) -> None:
        """Keeps it, and settles when there are many."""
        if change not in self._waiting[-1:]:  # given again
            self._waiting.append(change)
        if len(self._waiting) >= _TOGETHER:
            await self.settle()

    async def settle(self) -> None:
        """Ends when each shard has all of them. A change whose id another one had first is left out."""
        if not self._waiting:
            return
        request = propagation_pb2.PublishChangesRequest(
            changes=[messages.change_message(change) for change in self._waiting]
        )
        answers = whole(await self._shards.ask_all("Propagation", "PublishChanges", request, own_call(_PATIENCE_S)))
        for answer in answers:
            for change, result in zip(self._waiting, answer.results, strict=True):
                _check(change, result.status)
        self._waiting.clear()


def _check(change: Change, status: status_pb2.Status) -> None:
    """Raises Unavailable for what may be taken later."""
    if status.code in _LATER:
        raise Unavailable(status.message, retry_after_s=_AGAIN_S)
    if status.code not in (Code.OK, Code.ALREADY_EXISTS):
        log.error("a change of a bound namespace is refused", extra=fields(change=change.id, why=status.message))
