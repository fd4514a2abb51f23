"""From synchronous code into one event loop in a thread of its own: how the synchronous client calls the asynchronous
one.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar

from wellspring_client.errors import ClientClosed

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Portal:
    """An event loop in a daemon thread; any thread may call through it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wellspring-client", daemon=True)
        self._thread.start()
        self._lock = threading.Lock()
        self._closed = False

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of ``work``. An interrupt (Ctrl-C) cancels it."""
        if self._closed:
            work.close()
            raise ClientClosed("the client was closed; connect again")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def call(self, method: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, _T]:
        """``method``, callable from synchronous code with the same arguments."""

        @functools.wraps(method)
        def synchronous(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            return self.run(method(*args, **kwargs))

        return synchronous

    def iterate(self, method: Callable[_P, AsyncIterator[_T]]) -> Callable[_P, Iterator[_T]]:
        """``method``, an asynchronous iterator, as a synchronous one. Leaving the loop early ends its call."""

        @functools.wraps(method)
        def synchronous(*args: _P.args, **kwargs: _P.kwargs) -> Iterator[_T]:
            iterator = method(*args, **kwargs)
            try:
                while True:
                    try:
                        item = self.run(_next(iterator))
                    except StopAsyncIteration:
                        return
                    yield item
            finally:
                close = getattr(iterator, "aclose", None)
                if close is not None and not self._closed:
                    self.run(close())

        return synchronous

    def flatten(self, method: Callable[_P, AsyncIterator[list[_T]]]) -> Callable[_P, Iterator[_T]]:
        """As :meth:`iterate`, for an iterator of pages: item by item, with one change of threads a page."""
        pages = self.iterate(method)

        @functools.wraps(method)
        def synchronous(*args: _P.args, **kwargs: _P.kwargs) -> Iterator[_T]:
            for page in pages(*args, **kwargs):
                yield from page

        return synchronous

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``last``, then end the loop and its thread. Harmless when called twice."""
        with self._lock:
            if self._closed:
                return
            self.run(last())
            self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(iterator: AsyncIterator[_T]) -> _T:
    return await anext(iterator)
