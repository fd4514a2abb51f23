"""What a process has under way, which ends with it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from libs.errors.errors import WellspringError as EngineError
from wellspring_client.errors import WellspringError

_Answer = TypeVar("_Answer")


class Tasks:
    """`failed` hears of what went wrong in one of them and is no refusal."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        # In order, and not a set: whose connection breaks first must be the same in each run.
        self._running: dict[asyncio.Task[Any], None] = {}

    def keep(self, work: Awaitable[_Answer]) -> asyncio.Task[_Answer]:
        """It ends with the process."""
        task: asyncio.Task[_Answer] = asyncio.ensure_future(work)
        self._running[task] = None
        task.add_done_callback(self._ended)
        return task

    def end(self) -> None:
        """The process has ended."""
        for task in list(self._running):
            task.cancel()
        self._running.clear()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, EngineError | WellspringError):
            self._failed(error)
