"""What a server holds open: each resource registers how it is made, closed and asked for its health, in one place.

Resources are closed in the reverse of the order in which they were made, each once, whatever the others do.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from libs.telemetry.logs import fields

log = logging.getLogger(__name__)

T = TypeVar("T")
HealthCheck = Callable[[], Awaitable[None]]
"""Returns when the resource can do its work; raises when it cannot."""


class Resources:
    """The resources of one server, by name."""

    def __init__(self, close_timeout_s: float = 10.0) -> None:
        self._close_timeout_s = close_timeout_s
        self._closers: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self.checks: dict[str, HealthCheck] = {}
        self.names: set[str] = set()

    async def add(
        self,
        name: str,
        factory: Callable[[], Awaitable[T]],
        *,
        close: Callable[[T], Awaitable[None]] | None = None,
        health: Callable[[T], Awaitable[None]] | None = None,
    ) -> T:
        """Makes a resource with ``factory`` and returns it; what the factory raises goes up, with nothing registered.

        ``close(resource)`` runs when the server has stopped answering; ``health(resource)`` runs now and again, in at
        most the server's ``health_timeout_s``, and raises when the resource cannot work.
        """
        if name in self.names:
            raise ValueError(f"two resources are named {name!r}")
        resource = await factory()
        self.names.add(name)
        if close is not None:
            self._closers.append((name, lambda: close(resource)))
        if health is not None:
            self.checks[name] = lambda: health(resource)
        return resource

    async def close(self) -> None:
        """Closes everything, last made first. A closer that raises or takes too long is logged; the others go on."""
        while self._closers:
            name, close = self._closers.pop()
            try:
                async with asyncio.timeout(self._close_timeout_s):
                    await close()
            except Exception as error:
                log.error("a resource did not close", extra=fields(resource=name), exc_info=error)
        self.checks.clear()
