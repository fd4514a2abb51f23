"""The connections to one origin: kept alive, used again, opened when there is none. How many is its caller's matter.

Where the target's settings allow it, requests that may be made twice and that are begun in one moment go on one
connection, up to `pipeline` of them. Nothing is put behind what is unanswered already: a target whose answers come one
by one, because each takes it long, gets a connection for each request as without.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from services.propagation.targets.connection import Connection
from services.propagation.targets.exchange import UNREACHABLE, Exchange
from services.propagation.targets.settings import TargetSettings
from services.propagation.targets.target import OnEnd

IDLE_KEPT_S = 30.0
"""An idle connection is used again for so long; many servers end it after a minute."""


class _Opening:
    """Requests that wait for a connection that is being made."""

    __slots__ = ("exchanges", "task")

    def __init__(self, exchanges: list[Exchange]) -> None:
        self.exchanges = exchanges
        self.task: asyncio.Task[None] | None = None


class Pool:
    """Carries each exchange that it is given, and tells `on_end` once of each."""

    def __init__(self, settings: TargetSettings, on_end: OnEnd) -> None:
        parts = urlsplit(settings.origin)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._settings = settings
        self._ssl: ssl.SSLContext | None = settings.ssl_context() if parts.scheme == "https" else None
        self._server_name = (settings.tls.server_name if settings.tls is not None else "") or self._host
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._opening: dict[Exchange, _Opening] = {}
        self._busy: set[Connection] = set()
        self.opened = 0

    @property
    def connections(self) -> int:
        """Open ones, idle and busy."""
        return len(self._idle) + len(self._busy)

    def send(self, exchanges: Sequence[Exchange]) -> None:
        """Begins the exchanges."""
        at = 0
        while at < len(exchanges):
            piece = exchanges[at : self._end_of_piece(exchanges, at)]
            at += len(piece)
            connection = self._free_connection()
            if connection is None:
                self._open(list(piece))
            else:
                self._busy.add(connection)
                connection.send(piece)

    def abort(self, exchange: Exchange) -> None:
        """Lets go of an exchange under way, without telling of it."""
        opening = self._opening.pop(exchange, None)
        if opening is not None:
            opening.exchanges.remove(exchange)
            if not opening.exchanges and opening.task is not None:
                opening.task.cancel()
        connection = exchange.connection
        if isinstance(connection, Connection):
            self._busy.discard(connection)
            self._send_again([one for one in connection.abort() if one is not exchange])

    async def close(self) -> None:
        """Ends every connection; exchanges under way are let go of."""
        tasks = {opening.task for opening in self._opening.values() if opening.task is not None}
        self._opening.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in [*self._idle, *self._busy]:
            connection.abort()
        self._idle.clear()
        self._busy.clear()

    def _end_of_piece(self, exchanges: Sequence[Exchange], at: int) -> int:
        """Where the requests end that go on one connection. What goes first is not kept up by what need not."""
        depth, head = self._settings.pipeline, exchanges[at]
        end = at + 1
        if depth > 1 and head.idempotent:
            most = min(len(exchanges), at + depth)
            while end < most and exchanges[end].idempotent and exchanges[end].first == head.first:
                end += 1
        return end

    def _free_connection(self) -> Connection | None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable and self._loop.time() - connection.idle_since_s <= IDLE_KEPT_S:
                return connection
            connection.abort()
        return None

    def _open(self, exchanges: list[Exchange]) -> None:
        opening = _Opening(exchanges)
        self._opening.update(dict.fromkeys(exchanges, opening))
        # The tasks are owned here: `close` and `abort` cancel them, and each ends within the time to connect.
        opening.task = self._loop.create_task(self._connect(opening))

    async def _connect(self, opening: _Opening) -> None:
        problem = ""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._progress),
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
        exchanges = [one for one in opening.exchanges if self._opening.pop(one, None) is not None]
        if not exchanges:
            # Let go of in the same moment in which it was made.
            if connection is not None:
                connection.abort()
            return
        if connection is None or problem:
            for exchange in exchanges:
                exchange.error, exchange.detail = UNREACHABLE, problem
            self._on_end(exchanges)
            return
        self.opened += 1
        self._busy.add(connection)
        connection.send(exchanges)

    def _progress(self, connection: Connection, ended: list[Exchange]) -> None:
        if connection.closed:
            self._busy.discard(connection)
            self._send_again(connection.take_rest())
        elif not connection.busy:
            self._busy.discard(connection)
            connection.idle_since_s = self._loop.time()
            self._idle.append(connection)
        if ended:
            self._on_end(ended)

    def _send_again(self, exchanges: Sequence[Exchange]) -> None:
        """Once more, each on a connection of its own: the one that they were on has ended before its answers came."""
        now_s = self._loop.time()
        for exchange in exchanges:
            exchange.anew()
            exchange.began_s = now_s
            exchange.deadline_s = now_s + exchange.timeout_s
            self._open([exchange])


def _said(error: Exception) -> str:
    with contextlib.suppress(AttributeError):
        return str(error.strerror or type(error).__name__)  # type: ignore[attr-defined]
    return type(error).__name__
