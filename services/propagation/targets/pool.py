"""The connections to one origin: kept alive, used again, opened when there is none. How many is its caller's matter."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from services.propagation.targets.connection import Connection
from services.propagation.targets.exchange import CONNECTION_LOST, UNREACHABLE, Exchange
from services.propagation.targets.settings import TargetSettings

IDLE_KEPT_S = 30.0
"""An idle connection is used again for so long; many servers end it after a minute."""


class Pool:
    """Carries each exchange that it is given, on a connection of its own for that time, and calls `on_end` once."""

    def __init__(self, settings: TargetSettings, on_end: Callable[[Exchange], None]) -> None:
        parts = urlsplit(settings.origin)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._settings = settings
        self._ssl: ssl.SSLContext | None = settings.ssl_context() if parts.scheme == "https" else None
        self._server_name = (settings.tls.server_name if settings.tls is not None else "") or self._host
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._opening: dict[Exchange, asyncio.Task[None]] = {}
        self._busy: set[Connection] = set()
        self.opened = 0

    @property
    def connections(self) -> int:
        """Open ones, idle and busy."""
        return len(self._idle) + len(self._busy)

    def send(self, exchange: Exchange) -> None:
        """Begins the exchange."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable and self._loop.time() - connection.idle_since_s <= IDLE_KEPT_S:
                self._busy.add(connection)
                connection.send(exchange)
                return
            connection.abort()
        self._open(exchange)

    def abort(self, exchange: Exchange) -> None:
        """Lets go of an exchange under way, without calling `on_end`."""
        task = self._opening.pop(exchange, None)
        if task is not None:
            task.cancel()
        connection = exchange.connection
        if isinstance(connection, Connection):
            self._busy.discard(connection)
            connection.abort()

    async def close(self) -> None:
        """Ends every connection; exchanges under way are let go of."""
        tasks = list(self._opening.values())
        self._opening.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in [*self._idle, *self._busy]:
            connection.abort()
        self._idle.clear()
        self._busy.clear()

    def _open(self, exchange: Exchange) -> None:
        # The tasks are owned here: `close` and `abort` cancel them, and each ends within the time to connect.
        self._opening[exchange] = self._loop.create_task(self._connect(exchange))

    async def _connect(self, exchange: Exchange) -> None:
        problem = ""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._free),
                    self._host,
                    self._port,
                    ssl=self._ssl,
                    server_hostname=self._server_name if self._ssl is not None else None,
                )
        except TimeoutError:
            problem = f"no connection to {self._settings.origin} in {self._settings.connect_timeout_s:g} s"
        except ssl.SSLCertVerificationError as error:
            problem = f"the certificate of {self._settings.origin} is refused: {error.verify_message}"
        except (OSError, UnicodeError) as error:
            problem = f"no connection to {self._settings.origin}: {_said(error)}"
        if self._opening.pop(exchange, None) is None:
            # Let go of in the same moment in which it was made.
            if connection is not None:
                connection.abort()
            return
        if connection is None or problem:
            exchange.error, exchange.detail = UNREACHABLE, problem
            self._on_end(exchange)
            return
        self.opened += 1
        self._busy.add(connection)
        connection.send(exchange)

    def _free(self, connection: Connection, exchange: Exchange, keep: bool) -> None:
        self._busy.discard(connection)
        if keep:
            connection.idle_since_s = self._loop.time()
            self._idle.append(connection)
        elif (
            exchange.error == CONNECTION_LOST
            and connection.used
            and not connection.answered
            and exchange.idempotent
            and not exchange.resent
        ):
            # The server ended a connection that had been idle, just as it was used: once more, on one of its own.
            exchange.error, exchange.detail = None, ""
            exchange.anew()
            self._open(exchange)
            return
        self._on_end(exchange)


def _said(error: Exception) -> str:
    with contextlib.suppress(AttributeError):
        return str(error.strerror or type(error).__name__)  # type: ignore[attr-defined]
    return type(error).__name__
