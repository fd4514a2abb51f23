"""One request and what becomes of it: the object that goes from a caller through a target to a connection and back."""

from collections.abc import Callable
from typing import Final

Headers = list[tuple[bytes, bytes]]

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

    __slots__ = (
        "began_s",
        "body",
        "chunks",
        "connection",
        "data",
        "deadline_s",
        "detail",
        "error",
        "first",
        "headers",
        "idempotent",
        "lane",
        "max_body_bytes",
        "on_end",
        "resent",
        "retry_after_s",
        "size",
        "status",
        "tag",
        "timeout_s",
        "took_s",
    )

    def __init__(
        self,
        data: bytes,
        on_end: "Callable[[Exchange], None]",
        *,
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
        self.status = 0
        self.headers: Headers = []
        self.body = b""
        self.error: str | None = None
        self.detail = ""
        self.retry_after_s = 0.0
        self.began_s = 0.0
        self.deadline_s = 0.0
        self.took_s = 0.0
        self.resent = False
        self.chunks: list[bytes] = []
        self.size = 0
        self.lane: object = None
        self.first = False
        self.connection: object = None

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
        self.headers = []
        self.chunks = []
        self.size = 0
