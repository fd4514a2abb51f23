"""Changes that happened, on their way into the feed: many at once, behind the backs of those who wrote them.

Until one is in the feed, its event is here for readers of this process; readers of others find it in the record. What
cannot be written is left to them.
"""

import logging
from collections.abc import Sequence
from typing import Final

from libs.errors.errors import WellspringError
from services.storage.cassandra.lanes import Intent, Lane
from services.storage.store.tasks import Tasks

_log = logging.getLogger(__name__)
_TOGETHER: Final = 100

Happened = tuple[Intent, bytes]
"""A change and its event."""


class Settling:
    """The changes of one lane."""

    def __init__(self, lane: Lane, tasks: Tasks) -> None:
        self._lane = lane
        self._tasks = tasks
        self._events: dict[tuple[int, int], bytes] = {}
        self._waiting: list[Sequence[Happened]] = []
        self._writing = False

    def event(self, lane: int, sequence: int) -> bytes | None:
        """The event of a change that is on its way."""
        return self._events.get((lane, sequence))

    def add(self, changes: Sequence[Happened]) -> None:
        """Takes a change, or those of one row that happened; :meth:`event` has them from now on."""
        if not changes:
            return
        for intent, event in changes:
            self._events[intent.lane, intent.sequence] = event
            self._lane.forget(intent)
        self._waiting.append(changes)
        if not self._writing:
            self._writing = True
            self._tasks.spawn(self._write())

    async def _write(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
            try:
                await self._lane.settle_some(some)
            except WellspringError as error:
                _log.warning("changes of the feed are left for its readers to settle", extra={"reason": error.reason})
            for changes in some:
                for intent, _ in changes:
                    self._events.pop((intent.lane, intent.sequence), None)
        self._writing = False
