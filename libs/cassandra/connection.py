"""Connections that do with few system calls what comes together: each of them lets the interpreter's lock go, and the
driver's thread then waits for the event loop to give it back.

The driver cuts what it sends and reads into pieces of 4 KiB, one system call each: nine for an answer with 32 records
of 1 KiB, two for a write of three. Requests that are sent in one turn of the loop are joined here as well.
"""

from typing import Any, Final

from cassandra.io.libevreactor import LibevConnection

PIECE_BYTES: Final = 64 << 10
"""Of one system call. What a socket did not take of a piece is copied, so it is not without bounds."""


class Connection(LibevConnection):  # type: ignore[misc]
    """The driver's, on its thread, with larger pieces."""

    in_buffer_size = PIECE_BYTES
    out_buffer_size = PIECE_BYTES

    def handle_write(self, watcher: Any, revents: int, errno: int | None = None) -> None:
        """Sends what waits. Messages keep their order: only this thread takes some out, and others add behind."""
        waiting = self.deque
        if len(waiting) > 1:
            with self._deque_lock:
                pieces = [waiting.popleft()]
                size = len(pieces[0])
                while waiting and size + len(waiting[0]) <= PIECE_BYTES:
                    pieces.append(waiting.popleft())
                    size += len(pieces[-1])
                waiting.appendleft(b"".join(pieces))
        super().handle_write(watcher, revents, errno)
