"""Failures counted by caller and by the client's address: whoever fails too often is told to stop, a good token is not.

Addresses are counted under a key that lives in memory for an hour, so that nothing tells later who was here.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from services.session.domain.errors import GuessLimit

_WINDOW_S = 60
_KEY_LIFE_S = 3600


@dataclass(frozen=True, slots=True)
class GuessLimits:
    """Failures a minute of one caller and of one address, and how many addresses are counted at once."""

    per_caller: int = 10_000
    per_address: int = 60
    max_addresses: int = 100_000


class Guesses:
    """Counts of this minute. `now_s` is monotonic, `random(n)` gives n unpredictable bytes."""

    def __init__(self, limits: GuessLimits, now_s: Callable[[], float], random: Callable[[int], bytes]) -> None:
        self._limits = limits
        self._now_s = now_s
        self._random = random
        self._window = -1
        self._key, self._key_until_s = b"", 0.0
        self._callers: dict[str, int] = {}
        self._addresses: dict[bytes, int] = {}

    def failed(self, caller: str, address: str) -> None:
        """Counts a failure. Raises GuessLimit when there were too many in this minute."""
        self._turn()
        self._callers[caller] = count = self._callers.get(caller, 0) + 1
        over = count > self._limits.per_caller
        if address:
            name = hmac.digest(self._key, address.encode(), "sha256")[:12]
            # When the table is full, addresses it does not know share one place: they are limited together.
            if name not in self._addresses and len(self._addresses) >= self._limits.max_addresses:
                name = b""
            self._addresses[name] = count = self._addresses.get(name, 0) + 1
            over = over or count > self._limits.per_address
        if over:
            left = _WINDOW_S - self._now_s() % _WINDOW_S
            raise GuessLimit("too many tokens that are not valid", retry_after_s=max(1.0, left))

    def _turn(self) -> None:
        now_s = self._now_s()
        window = int(now_s // _WINDOW_S)
        if window != self._window:
            self._window = window
            self._callers.clear()
            self._addresses.clear()
        if now_s >= self._key_until_s:
            self._key, self._key_until_s = self._random(32), now_s + _KEY_LIFE_S
