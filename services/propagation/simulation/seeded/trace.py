"""What happened, line by line in virtual time; and the error that says which promise was broken."""

import sys
from collections import deque
from collections.abc import Callable

_KEPT = 60


class Violation(AssertionError):
    """A promise was broken. `rule` is its short name, `detail` what was seen."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


def violation_in(error: BaseException | None) -> Violation | None:
    """The first violation in an error or a group of errors."""
    if isinstance(error, Violation):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for one in error.exceptions if (found := violation_in(one)) is not None), None)
    return None


class Trace:
    """Keeps the last lines for a report; prints all of them when `printing`. `now` gives virtual seconds."""

    def __init__(self, now: Callable[[], float], *, printing: bool = False) -> None:
        self._now = now
        self._printing = printing
        self.lines: deque[str] = deque(maxlen=_KEPT)
        self.count = 0
        self.digest = 0

    def __call__(self, who: str, what: str) -> None:
        """Notes one step."""
        line = f"{self._now():10.4f}  {who:<10} {what}"
        self.count += 1
        self.digest = _mix(self.digest, line)
        self.lines.append(line)
        if self._printing:
            sys.stdout.write(f"{line}\n")


def _mix(digest: int, line: str) -> int:
    """Runs of one seed have one digest, in whatever process: no hash that a process salts."""
    return (digest * 1_000_003 ^ int.from_bytes(line.encode()[-24:], "big")) & 0xFFFFFFFFFFFFFFFF
