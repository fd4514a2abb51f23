"""Random bytes from the system, many at once: a login takes some from it nine times, and each call of the system lets
other threads run, which costs more than the bytes.

What was given is not kept: its place is overwritten at once, so that memory tells nothing of keys and tokens that are
given out. A child process begins with none of its parent's.
"""

import os
import threading
from typing import Final

from services.session.crypto.tokens import Random

_BYTES: Final = 2048


class Pool:
    """`random(n)` for keys, tokens and nonces, of any thread. `source(n)` gives n unpredictable bytes."""

    def __init__(self, source: Random) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._left = bytearray()
        self._at = 0
        os.register_at_fork(after_in_child=self._forget)

    def __call__(self, size: int) -> bytes:
        with self._lock:
            end = self._at + size
            if end > len(self._left):
                if size > _BYTES // 4:
                    return self._source(size)
                self._left = bytearray(self._source(_BYTES))
                self._at, end = 0, size
            taken = bytes(self._left[self._at : end])
            self._left[self._at : end] = bytes(size)
            self._at = end
            return taken

    def _forget(self) -> None:
        self._lock, self._left, self._at = threading.Lock(), bytearray(), 0
