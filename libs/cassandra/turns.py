"""What comes together goes together: when those who wait are to go, and how many pieces of work are under way.

They go at the end of the event loop's turn in which they came: who is alone waits for nothing. While so many pieces of
work are under way, who comes waits for one of them to end, ``patience_s`` at most, and goes with all who came by then.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, Final

UNDER_WAY: Final = 2
"""Pieces of work, as long as they end in time: more would be smaller ones."""
PATIENCE_S: Final = 0.02
"""For those under way: several times what one takes on a cluster that is well."""

Work = Coroutine[Any, Any, None]


@contextmanager
def answered(waiting: "Sequence[asyncio.Future[Any]]") -> Iterator[None]:
    """Around a piece of work: it raises nothing, and all who wait hear of it. Those whom it gave no answer have its
    error; when it was cancelled, so are they."""
    try:
        yield
    except Exception as error:
        fail(waiting, error)
    finally:
        for one in waiting:
            one.cancel()


def settle(waiting: "Sequence[asyncio.Future[Any]]", result: Any) -> None:
    """The answer for those who have none, and still wait."""
    for one in waiting:
        if not one.done():
            one.set_result(result)


def fail(waiting: "Sequence[asyncio.Future[Any]]", error: Exception) -> None:
    """The error for those who have no answer, and still wait."""
    for one in waiting:
        if not one.done():
            one.set_exception(error)


class Turns:
    """Those of one queue. All methods belong to one event loop."""

    def __init__(
        self,
        waiting: Sized,
        take: Callable[[], Work | None],
        idle: Callable[[], None],
        *,
        patience_s: float = PATIENCE_S,
        under_way: int = UNDER_WAY,
    ) -> None:
        """``waiting``: those who wait, some of whom ``take`` takes out, and answers the work that is done for them;
        None: they went away. Work raises nothing. ``idle``: nobody waits, and nothing is under way."""
        self._waiting = waiting
        self._take = take
        self._idle = idle
        self._patience_s = patience_s
        self._upto = under_way
        self._called = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def came(self) -> None:
        """There is somebody more who waits."""
        if len(self._tasks) < self._upto:
            self._soon()
        elif self._timer is None:
            self._set_timer()

    def _soon(self) -> None:
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._called = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and len(self._tasks) < self._upto:
            self._start()
        if self._waiting:
            self._set_timer()
        elif not self._tasks:
            self._idle()

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._patience_s, self._late)

    def _late(self) -> None:
        """What is under way takes long: a piece is begun beside it."""
        self._timer = None
        self._start()
        if self._waiting:
            self._set_timer()

    def _start(self) -> None:
        work = self._take()
        if work is not None:
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._soon()
