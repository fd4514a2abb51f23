"""Clients' addresses counted by the minute, and kept nowhere: under a key that lives in memory for an hour, so that
nothing tells later who was here."""

import hmac
from collections.abc import Callable
from typing import Final

WINDOW_S: Final = 60
_KEY_LIFE_S: Final = 3600


class AddressCounts:
    """How often each address came in this minute. `now_s` is monotonic, `random(n)` gives n unpredictable bytes."""

    def __init__(self, most: int, now_s: Callable[[], float], random: Callable[[int], bytes]) -> None:
        self._most = most
        self._now_s = now_s
        self._random = random
        self._window = -1
        self._key, self._key_until_s = b"", 0.0
        self._counts: dict[bytes, int] = {}

    def counted(self, address: str) -> int:
        """Counts the address once more; how often it was in this minute."""
        self._turn()
        name = hmac.digest(self._key, address.encode(), "sha256")[:12]
        # When the table is full, addresses it does not know share one place: they are limited together.
        if name not in self._counts and len(self._counts) >= self._most:
            name = b""
        self._counts[name] = count = self._counts.get(name, 0) + 1
        return count

    def left_s(self) -> float:
        """Seconds until the counts begin anew; at least one."""
        return max(1.0, WINDOW_S - self._now_s() % WINDOW_S)

    def _turn(self) -> None:
        now_s = self._now_s()
        window = int(now_s // WINDOW_S)
        if window != self._window:
            self._window = window
            self._counts.clear()
        if now_s >= self._key_until_s:
            self._key, self._key_until_s = self._random(32), now_s + _KEY_LIFE_S
