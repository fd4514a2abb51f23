"""Failures counted by caller and by the client's address: who fails too often is told to stop, a good token is not."""

from collections.abc import Callable
from dataclasses import dataclass

from services.session.domain.addresses import WINDOW_S, AddressCounts
from services.session.domain.errors import GuessLimit


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
        self._window = -1
        self._callers: dict[str, int] = {}
        self._addresses = AddressCounts(limits.max_addresses, now_s, random)

    def failed(self, caller: str, address: str) -> None:
        """Counts a failure. Raises GuessLimit when there were too many in this minute."""
        window = int(self._now_s() // WINDOW_S)
        if window != self._window:
            self._window = window
            self._callers.clear()
        self._callers[caller] = count = self._callers.get(caller, 0) + 1
        over = count > self._limits.per_caller
        if address:
            over = self._addresses.counted(address) > self._limits.per_address or over
        if over:
            raise GuessLimit("too many tokens that are not valid", retry_after_s=self._addresses.left_s())
