"""What the gateway needs of storage: one item, at least so new."""

from collections.abc import Awaitable
from typing import Protocol

from services.gateway.domain.cache import Page
from services.gateway.domain.routes import Target


class OriginUnavailable(Exception):
    """Storage cannot answer now; the same request may be sent again after `retry_after_s`."""

    def __init__(self, what: str, retry_after_s: float = 1.0) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s


class Origin(Protocol):
    """Where pages come from."""

    def fetch(self, target: Target, *, strong: bool) -> Awaitable[Page | None]:
        """The page, None when there is none. `strong` asks every replica that must agree. Raises OriginUnavailable."""

    def healthy(self) -> Awaitable[bool]:
        """Whether a read would be answered."""
