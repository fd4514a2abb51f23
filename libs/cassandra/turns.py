"""What comes together goes together: when those who wait are to go, and how many pieces of work are under way.

They go at the end of the event loop's turn in which they came: who is alone waits for nothing. While a piece of work is
under way, who comes waits for it to end, and goes with all who came by then. He waits no longer when those who wait are
as many as one piece takes, nor when the one under way takes long: then another one begins beside it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

UNDER_WAY: Final = 1
"""Pieces of work that are not full, as long as they end in time: a second one would take the few who come next."""
PATIENCE_S: Final = 0.02
"""For those under way: several times what one takes on a cluster that is well."""
LONGEST_S: Final = 0.2
"""The same where all take long, for the cluster or this machine is busy: there many small pieces would take longer."""
_OF_LATE: Final = 0.25
"""How much the last piece counts in what pieces take."""

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


def _never() -> bool:
    return False


class Turns:
    """Those of one queue. All methods belong to one event loop."""

    def __init__(
        self,
        waiting: Sized,
        take: Callable[[], Work | None],
        idle: Callable[[], None],
        *,
        full: Callable[[], bool] = _never,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """``waiting``: those who wait, some of whom ``take`` takes out, the first ones first, and answers the work that
        is done for them; None: they went away. Work raises nothing. ``idle``: nobody waits, and nothing is under way.
        ``full``: whether those who wait are as many as ``take`` takes at once. ``patience_s``: for what is under way,
        at least; twice what pieces took of late, but not above LONGEST_S."""
        self._waiting = waiting
        self._take = take
        self._idle = idle
        self._full = full
        self._least_s = patience_s
        self._most_s = max(patience_s, LONGEST_S)
        self._took_s = 0.0
        self._called = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def came(self) -> None:
        """There is somebody more who waits."""
        if len(self._tasks) < UNDER_WAY or self._full():
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
        while self._waiting and (len(self._tasks) < UNDER_WAY or self._full()):
            self._start()
        if self._waiting:
            self._set_timer()
        elif not self._tasks:
            self._idle()

    def _set_timer(self) -> None:
        patience_s = min(max(self._least_s, 2 * self._took_s), self._most_s)
        self._timer = asyncio.get_running_loop().call_later(patience_s, self._late)

    def _late(self) -> None:
        """What is under way takes long: a piece is begun beside it."""
        self._timer = None
        self._start()
        if self._waiting:
            self._set_timer()

    def _start(self) -> None:
        work = self._take()
        if work is not None:
            loop = asyncio.get_running_loop()
            task = loop.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, loop.time()))

    def _ended(self, began_s: float, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._took_s += _OF_LATE * (asyncio.get_running_loop().time() - began_s - self._took_s)
        self._soon()
