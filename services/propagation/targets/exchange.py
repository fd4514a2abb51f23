"""One request and what becomes of it: the object that goes from a caller through a target to a connection and back."""

from collections.abc import Callable, Sequence
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]

UNREACHABLE: Final = "UNREACHABLE"
CONNECTION_LOST: Final = "CONNECTION_LOST"
TIMEOUT: Final = "TIMEOUT"
MALFORMED: Final = "MALFORMED"
TOO_LARGE: Final = "TOO_LARGE"
WITHHELD: Final = "WITHHELD"
"""Not sent: the target's breaker is open."""
CANCELLED: Final = "CANCELLED"

LATER: Final = float("inf")
"""When what waits behind others on its connection began, and when it must have ended: not known yet."""


class Exchange:
    """A request as bytes, and its answer: `status` with `headers` and `body`, or `error` with `detail`.

    Headers' names are in lower case. `on_end` is called once, with the exchange; it must not raise. `retry_after_s` is
    set for what was withheld. `took_s` does not count the time behind others on the same connection. `tag` is the
    caller's own.
    """

    # What an exchange begins with stands on the class: one is made for each page, and most of it is never set.
    status = 0
    headers: Headers = ()
    body = b""
    error: str | None = None
    detail = ""
    retry_after_s = 0.0
    began_s = 0.0
    deadline_s = 0.0
    took_s = 0.0
    resent = False
    lane: object = None
    first = False
    connection: object = None

    def __init__(
        self,
        data: bytes,
        on_end: "Callable[[Exchange], None]",
        timeout_s: float,
        max_body_bytes: int,
        idempotent: bool = True,
        tag: int = 0,
    ) -> None:
        self.data = data
        self.on_end = on_end
        self.timeout_s = timeout_s
        self.max_body_bytes = max_body_bytes
        self.idempotent = idempotent
        self.tag = tag

    def header(self, name: bytes) -> bytes | None:
        """The first value of the header; `name` in lower case. None: there is none."""
        for given, value in self.headers:
            if given == name:
                return value
        return None

    def anew(self) -> None:
        """Forgets what came of an answer, to be sent once more."""
        self.resent = True
        self.connection = None
        self.status = 0
        self.headers = ()
