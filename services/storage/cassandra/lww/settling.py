"""Changes that happened, on their way into the feed: many at once, behind the backs of those who wrote them.

Until one is in the feed, its event is here for readers of this process; readers of others find it in the record. What
cannot be written is left to them.
"""

import logging
from typing import Final

from libs.errors.errors import WellspringError
from services.storage.cassandra.lanes import Intent, Lane
from services.storage.store.tasks import Tasks

_log = logging.getLogger(__name__)
_TOGETHER: Final = 100


class Settling:
    """The changes of one lane."""

    def __init__(self, lane: Lane, tasks: Tasks) -> None:
        self._lane = lane
        self._tasks = tasks
        self._waiting: dict[tuple[int, int], tuple[Intent, bytes]] = {}
        self._writing = False

    def event(self, lane: int, sequence: int) -> bytes | None:
        """The event of a change that is on its way."""
        found = self._waiting.get((lane, sequence))
        return None if found is None else found[1]

    def add(self, intent: Intent, event: bytes) -> None:
        """Takes a change; :meth:`event` has it from now on."""
        self._waiting[intent.lane, intent.sequence] = (intent, event)
        self._lane.forget(intent)
        if not self._writing:
            self._writing = True
            self._tasks.spawn(self._write())

    async def _write(self) -> None:
        while self._waiting:
            some = list(self._waiting.values())[:_TOGETHER]
            try:
                await self._lane.settle_some(some)
            except WellspringError as error:
                _log.warning("changes of the feed are left for its readers to settle", extra={"reason": error.reason})
            for intent, _ in some:
                self._waiting.pop((intent.lane, intent.sequence), None)
        self._writing = False
