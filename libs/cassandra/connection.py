"""Connections that do with few system calls and few turns of the driver's thread what comes together: with each of them
the interpreter's lock is let go, and whoever wants it back waits for the other thread.

The driver cuts what it sends and reads into pieces of 4 KiB, one system call each: nine for an answer with 32 records
of 1 KiB, two for a write of three. And it leaves all sending to its thread, which looks round four times for it. Here
the event loop itself sends the requests of one turn, together; the driver's thread does what a socket does not take.
"""

import asyncio
from threading import Lock, local
from typing import Any, Final

from cassandra.io import libevreactor
from cassandra.io.libevreactor import LibevConnection

PIECE_BYTES: Final = 64 << 10
"""Of one system call of the driver's thread. What a socket did not take of a piece is copied, so it has bounds."""


class _Asking(local):
    """The event loop that asks at this moment, in its own thread."""

    loop: asyncio.AbstractEventLoop | None = None


_asking: Final = _Asking()


def ask(session: Any, statement: Any, **options: Any) -> Any:
    """``execute_async`` of a driver's session, for who awaits the answer: it is sent at the end of the event loop's
    turn, which whoever blocks the loop would never see."""
    _asking.loop = asyncio.get_running_loop()
    try:
        return session.execute_async(statement, timeout=None, **options)
    finally:
        _asking.loop = None


class Connection(LibevConnection):  # type: ignore[misc]
    """The driver's, with larger pieces, and with requests sent where they are made."""

    in_buffer_size = PIECE_BYTES
    out_buffer_size = PIECE_BYTES

    def __init__(self, *args: Any, **options: Any) -> None:
        self._turn: list[bytes] = []  # what is to be sent at the end of the event loop's turn; its thread alone has it
        self._sending = Lock()  # for who takes something out and sends it: messages stay whole, and in their order
        super().__init__(*args, **options)

    def push(self, data: bytes) -> None:
        """Sends a message: at the end of the event loop's turn what was asked there, by the driver's thread all else.
        TLS is the thread's: a socket of it is not for two threads at once."""
        loop = None if self.ssl_context else _asking.loop
        if loop is None:
            super().push(data)
            return
        if not self._turn:
            loop.call_soon(self._send_turn)
        self._turn.append(data)

    def _send_turn(self) -> None:
        data, self._turn = b"".join(self._turn), []
        if not self._sending.acquire(blocking=False):
            super().push(data)
            return
        try:
            with self._deque_lock:
                sent = 0 if self.deque else self._taken(data)
                self.deque.extend(data[at : at + PIECE_BYTES] for at in range(sent, len(data), PIECE_BYTES))
        finally:
            self._sending.release()
        if sent < len(data):
            libevreactor._global_loop.notify()

    def _taken(self, data: bytes) -> int:
        """How many bytes the socket took."""
        try:
            return int(self._socket.send(data))
        except OSError:
            return 0  # it is full, or broken: the driver's thread finds out which, and tells the driver

    def handle_write(self, watcher: Any, revents: int, errno: int | None = None) -> None:
        """Sends what waits."""
        with self._sending:
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
