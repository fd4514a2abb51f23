"""A link between servers that can be cut: an address in front of a server, from which all is carried on to it.

Cut, it keeps its connections and carries nothing; who connects is turned away. Mended, the connections of before are
closed, and what was under way in them is lost.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

_PIECE_BYTES: Final = 1 << 16


class Link:
    """Carries what comes to `front` on to `host`, on each of `ports`. `close` ends it."""

    def __init__(self, front: str, host: str, ports: Iterable[int]) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._mended = threading.Event()
        self._mended.set()
        self._carrying: set[socket.socket] = set()
        self._listening = [socket.create_server((front, port)) for port in ports]
        for one in self._listening:
            threading.Thread(target=self._accept, args=(one,), daemon=True).start()

    def cut(self) -> None:
        """From now on nothing is carried."""
        with self._lock:
            self._mended.clear()

    def mend(self) -> None:
        """New connections are carried again."""
        with self._lock:
            _close(self._carrying)
            self._carrying.clear()
            self._mended.set()

    def close(self) -> None:
        """Ends it, and all connections."""
        self.mend()
        _close(self._listening)

    def _accept(self, listening: socket.socket) -> None:
        port = listening.getsockname()[1]
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                return  # closed
            if self._mended.is_set():
                threading.Thread(target=self._carry, args=(near, port), daemon=True).start()
            else:
                near.close()

    def _carry(self, near: socket.socket, port: int) -> None:
        try:
            far = socket.create_connection((self._host, port), 10)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        pair = {near, far}
        with self._lock:
            if not self._mended.is_set():
                _close(pair)
                return
            self._carrying |= pair
        for one in pair:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=self._copy, args=(far, near), daemon=True)
        back.start()
        self._copy(near, far)
        back.join()
        with self._lock:
            self._carrying -= pair
        _close(pair)

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        """Until one of them is closed."""
        with suppress(OSError):
            while piece := one.recv(_PIECE_BYTES):
                if not self._mended.is_set():
                    self._mended.wait()
                    return
                other.sendall(piece)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _close(sockets: Iterable[socket.socket]) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
