"""Connections: how many there may be, how long they may be slow, and nothing of a bad request in an answer or a log.

aiohttp closes a connection that brings no whole request head within its keep-alive time, and reads no further ahead
than a few pipelined requests. Here is what it lacks: a bound on connections, a bound on how long a client takes its
answer, and errors of its parser that repeat nothing (its own quote the bytes that they could not read).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web

from libs.telemetry.logs import fields
from services.session.kask.problems import Problem, answer

log = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refused = Callable[[int], None]
"""Told the status of an answer that no handler gave."""


class HttpServer(web.Server):
    """Makes connections. `max_connections` at once, more are closed as they come; `transfer_s` for an answer to go."""

    def __init__(
        self, handler: Handler, *, max_connections: int, transfer_s: float, refused: Refused, **settings: Any
    ) -> None:
        super().__init__(handler, **settings)
        self.max_connections = max_connections
        self.transfer_s = transfer_s
        self.refused = refused

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_server",)

    def __init__(self, server: HttpServer, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if len(self._server.connections) >= self._server.max_connections:
            self._force_close = True
            cast(asyncio.Transport, transport).abort()
            return
        super().connection_made(transport)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        try:
            async with asyncio.timeout(self._server.transfer_s):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            return resp, True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A request that cannot be read, or an error that nobody expected."""
        response, instance = answer(Problem(status, close=True))
        self._server.refused(status)
        level = logging.DEBUG if status < 500 else logging.ERROR
        log.log(level, "a request failed", extra=fields(status=status, error=type(exc).__name__, instance=instance))
        if request.writer.output_size > 0:
            raise ConnectionError("part of another answer is under way")
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        error = kw.get("exc_info")
        log.error("a connection failed", extra=fields(error=type(error).__name__))
