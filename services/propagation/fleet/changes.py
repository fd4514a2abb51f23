"""Changes that an engine makes for all shards, of bound namespaces and of events: durable in each before a cursor is
written behind them."""

import logging
from collections.abc import Sequence

from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from libs.errors.errors import AlreadyExists, Code, FailedPrecondition, InvalidArgument, Unavailable, WellspringError
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
_FOR_GOOD: dict[int, type[WellspringError]] = {
    int(one.code): one for one in (AlreadyExists, FailedPrecondition, InvalidArgument)
}


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
        for answer in await _answers(self._shards, self._waiting):
            for change, result in zip(self._waiting, answer.results, strict=True):
                _check(change, result.status)
        self._waiting.clear()


async def publish(shards: Shards, changes: Sequence[Change]) -> None:
    """Ends when each shard has all of them. Raises the first refusal: AlreadyExists, FailedPrecondition and
    InvalidArgument for good, Unavailable for what may be taken later; shards may have others of them then."""
    for answer in await _answers(shards, changes):
        for result in answer.results:
            if result.status.code:
                raise _refusal(result.status)


async def _answers(shards: Shards, changes: Sequence[Change]) -> Sequence[propagation_pb2.PublishChangesResponse]:
    request = propagation_pb2.PublishChangesRequest(changes=[messages.change_message(change) for change in changes])
    return whole(await shards.ask_all("Propagation", "PublishChanges", request, own_call(_PATIENCE_S)))


def _refusal(status: status_pb2.Status) -> WellspringError:
    for_good = _FOR_GOOD.get(status.code)
    if for_good is None:
        return Unavailable(status.message, retry_after_s=_AGAIN_S)
    info = error_details_pb2.ErrorInfo()
    found = any(detail.Unpack(info) for detail in status.details)
    return for_good(status.message, reason=info.reason if found else None)


def _check(change: Change, status: status_pb2.Status) -> None:
    """Raises Unavailable for what may be taken later."""
    if status.code in _LATER:
        raise Unavailable(status.message, retry_after_s=_AGAIN_S)
    if status.code not in (Code.OK, Code.ALREADY_EXISTS):
        log.error("a change of a bound namespace is refused", extra=fields(change=change.id, why=status.message))
