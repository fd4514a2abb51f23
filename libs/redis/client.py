"""A Redis server asked by scripts: each exchange is one script, within one time limit, over one of a few connections.

Every script is told, as its first argument, the *incarnation* of the server that runs it: the identity of the process
and of its data set, read when the connection was made. A server that was restarted from an old file, or a replica that
took over, is another incarnation; a script that compares it knows that what it finds may be of the past.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from libs.errors.errors import Unavailable
from libs.redis.options import Options, Tls
from libs.redis.patience import within

_IDENTITY: Final = (b"run_id", b"master_replid")
Argument = bytes | int


class RedisUnavailable(Unavailable):
    """The server did not do what it was asked, or did not say in time that it did: it may have been done."""

    default_reason = "REDIS_UNAVAILABLE"


class Script:
    """A Lua script; ``name`` is for people. It finds the incarnation in ``ARGV[1]``, the given arguments from
    ``ARGV[2]`` on."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class _NamedSsl(SSLConnection):
    """TLS to a server whose certificate carries another name than its address."""

    server_name = ""

    def _connection_arguments(self) -> Any:
        return {**super()._connection_arguments(), "server_hostname": self.server_name or self.host}


class Redis:
    """One server. Connections are made as they are needed; a server that is not there fails the exchange alone."""

    def __init__(self, options: Options, scripts: Sequence[Script]) -> None:
        """``scripts``: all that will be run."""
        self._options = options
        self._scripts = tuple(scripts)
        self._idle: list[tuple[Any, bytes]] = []
        self._room = asyncio.Semaphore(options.max_connections)
        self._closed = False

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> Any:
        """What the script answers: bytes, int, None, or lists of them. Raises RedisUnavailable."""
        try:
            async with within(self._options.timeout_s), self._room:
                return await self._run(script, keys, arguments)
        except (RedisError, OSError, EOFError, TimeoutError):
            # What ended one connection has ended those that wait, most likely: each would cost a failure of its own.
            await self._drop()
            raise RedisUnavailable("the Redis server did not answer") from None

    async def close(self) -> None:
        """Closes the connections; what is under way goes on, and closes its own."""
        self._closed = True
        await self._drop()

    async def _drop(self) -> None:
        while self._idle:
            connection, _ = self._idle.pop()
            await connection.disconnect(nowait=True)

    async def _run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> Any:
        connection, incarnation = self._idle.pop() if self._idle else await self._connect()
        kept = False
        try:
            # A connection that was lost is not made again beneath us: it would be to another incarnation, perhaps.
            if not connection.is_connected:
                raise ConnectionError
            await connection.send_command(
                "EVALSHA", script.digest, len(keys), *keys, incarnation, *arguments, check_health=False
            )
            answer = await connection.read_response()
            kept = not self._closed
            return answer
        finally:
            if kept:
                self._idle.append((connection, incarnation))
            else:
                await connection.disconnect(nowait=True)

    async def _connect(self) -> tuple[Any, bytes]:
        """A new connection with the scripts loaded, and the incarnation at its other end."""
        connection = connection_to(self._options)
        try:
            await connection.connect()
            commands: list[tuple[str, ...]] = [("INFO", "server"), ("INFO", "replication")]
            commands += [("SCRIPT", "LOAD", one.source) for one in self._scripts]
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            told = b"".join([await connection.read_response() for _ in range(2)])
            for _ in self._scripts:
                await connection.read_response()
            return connection, _incarnation(told)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise


def _incarnation(told: bytes) -> bytes:
    """The identities in the answers to INFO. Raises RedisError when there are none."""
    found = dict(line.split(b":", 1) for line in told.splitlines() if b":" in line)
    if not all(found.get(name) for name in _IDENTITY):
        raise RedisError("the server does not say who it is")
    return b"-".join(found[name] for name in _IDENTITY)


def connection_to(options: Options) -> Any:
    """A connection to be made: to the server of `options`, of this library's kind."""
    common: dict[str, Any] = {
        "db": options.database,
        "username": options.username or None,
        "password": options.password or None,
        "protocol": 2,
        "socket_timeout": None,  # an exchange has its limit as a whole
        "socket_connect_timeout": options.timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,
    }
    if isinstance(options.address, str):
        return UnixDomainSocketConnection(path=options.address, **common)
    host, port = options.address
    if options.tls is None:
        return Connection(host=host, port=port, **common)
    return _secure(options.tls, host=host, port=port, **common)


def _secure(tls: Tls, **common: Any) -> SSLConnection:
    connection = _NamedSsl(
        ssl_ca_certs=tls.ca_file,
        ssl_certfile=tls.certificate_file or None,
        ssl_keyfile=tls.key_file or None,
        **common,
    )
    connection.server_name = tls.server_name
    return connection
