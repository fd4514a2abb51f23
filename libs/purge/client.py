"""Purges of one cache instance over HTTP/1.1: kept connections, pipelined as deep as the cache allows, each answer
accounted for.

A purge is idempotent, so one whose connection ended before its answer (a cache closes idle connections, or closes
after so many requests) is sent again on a new connection, as long as each connection answers something and once more
when one does not. What then has no answer is a failure that the caller is told of.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from libs.purge.connection import Connection
from libs.purge.naming import MINIMUM_HEADER, PURGE_TAGS_HEADER

_PRINTABLE = re.compile(r"[!-~]+")
_ACKNOWLEDGED = frozenset([*range(200, 300), 404])
"""A cache that knows no such page has nothing to forget."""


class Purge(NamedTuple):
    """One purge: of a path (percent-encoded, with its query), or of all that carries one of the tags.

    `min_version`: what is at least so new may stay (16 bytes; empty: all goes). `host` is the site whose page it is,
    where caches serve several (empty: the cache's own).
    """

    path: str = "/"
    min_version: bytes = b""
    tags: tuple[str, ...] = ()
    host: str = ""

    @property
    def what(self) -> str:
        """The purge in words, for errors."""
        return f"PURGE of tags {' '.join(self.tags)}" if self.tags else f"PURGE {self.path}"


def purge_of_url(url: str, min_version: bytes = b"") -> Purge:
    """The purge of a page by its path, or by its whole URL, whose host is then kept."""
    if url.startswith("/"):
        return Purge(url, min_version)
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Purge(path, min_version, host=parts.netloc)


@dataclass(frozen=True, slots=True)
class Instance:
    """One cache instance. `url` is http://host:port; `depth` is how many purges may be unanswered on one connection
    (1: no pipelining); `timeout_s` is for the answers to so many together.

    `cache` is the name of the cache that it belongs to; `host` the Host header (empty: the url's).
    """

    url: str
    cache: str = "cache"
    host: str = ""
    connections: int = 1
    depth: int = 32
    timeout_s: float = 2.0
    tags_header: str = PURGE_TAGS_HEADER


class PurgeFailed(Exception):
    """A purge that a cache did not acknowledge; the text says which cache and how it failed."""

    def __init__(self, cache: str, what: str) -> None:
        super().__init__(f"cache {cache}: {what}")
        self.cache = cache


class PurgeClient:
    """Purges one instance. One for each instance in a process: it bounds what is under way. Close it when done."""

    def __init__(self, instance: Instance) -> None:
        parts = urlsplit(instance.url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"a cache's url is http://host:port, not {instance.url!r}")
        self.instance = instance
        self._host, self._port = parts.hostname.encode("idna").decode(), parts.port or 80
        self._end = f" HTTP/1.1\r\nHost: {instance.host or parts.netloc}\r\n"
        self._ends = f"{self._end}\r\n"
        self._ends_for = (b"", "")
        self._idle: asyncio.LifoQueue[Connection | None] = asyncio.LifoQueue(instance.connections)
        for _ in range(instance.connections):
            self._idle.put_nowait(None)

    def request(self, purge: Purge) -> bytes:
        """The bytes of a purge on the wire. Raises ValueError for what cannot be part of a request."""
        path, min_version, tags, host = purge
        if _PRINTABLE.fullmatch(path) is None:
            raise ValueError(f"not fit for a purge (percent-encode it): {path!r}")
        # Purges of a slice end alike, but for those of tags.
        if tags or (min_version, host) != self._ends_for:
            end = self._end_of(min_version, tags, host)
            if tags:
                return f"PURGE {path}{end}".encode("ascii")
            self._ends_for, self._ends = (min_version, host), end
        return f"PURGE {path}{self._ends}".encode("ascii")

    def _end_of(self, min_version: bytes, tags: tuple[str, ...], host: str) -> str:
        """What stands in a request after its path."""
        text = self._end
        if host:
            if _PRINTABLE.fullmatch(host) is None:
                raise ValueError(f"not fit for a purge's host: {host!r}")
            text = f" HTTP/1.1\r\nHost: {host}\r\n"
        if min_version:
            text = f"{text}{MINIMUM_HEADER}: {min_version.hex()}\r\n"
        if tags:
            for tag in tags:
                if _PRINTABLE.fullmatch(tag) is None:
                    raise ValueError(f"not fit for a purge (percent-encode it): tag {tag!r}")
            text = f"{text}{self.instance.tags_header}: {' '.join(tags)}\r\n"
        return f"{text}\r\n"

    async def purge(self, purges: Sequence[Purge]) -> dict[int, PurgeFailed]:
        """Ends when each has been answered or given up; why those that were not acknowledged were not, by index."""
        failed: dict[int, PurgeFailed] = {}
        indexes: list[int] = []
        requests: list[bytes] = []
        for index, purge in enumerate(purges):
            try:
                requests.append(self.request(purge))
            except ValueError as error:
                failed[index] = self._failure(str(error))
            else:
                indexes.append(index)
        statuses = await self._send(requests, failed, indexes)
        for index, status in zip(indexes, statuses, strict=True):
            if status and status not in _ACKNOWLEDGED:
                failed[index] = self._failure(f"{purges[index].what} answered {status}")
        return failed

    async def close(self) -> None:
        """Ends the idle connections."""
        idle = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
        for connection in idle:
            if connection is not None:
                connection.close()
            self._idle.put_nowait(None)

    async def _send(self, requests: list[bytes], failed: dict[int, PurgeFailed], indexes: list[int]) -> list[int]:
        """Statuses by request; 0 where there is none, which `failed` then explains."""
        statuses = [0] * len(requests)
        depth = self.instance.depth
        starts = iter(range(0, len(requests), depth))
        workers = min(self.instance.connections, -(-len(requests) // depth))
        if workers == 1:
            problem = await self._work(requests, starts, statuses)
        else:
            problems = await asyncio.gather(*(self._work(requests, starts, statuses) for _ in range(workers)))
            problem = next(filter(None, problems), "")
        if problem:
            reason = self._failure(problem)
            failed |= {indexes[n]: reason for n, status in enumerate(statuses) if not status}
        return statuses

    async def _work(self, requests: list[bytes], starts: Iterator[int], statuses: list[int]) -> str:
        """Takes pieces until none is left, or one fails; what the failure was."""
        connection = await self._idle.get()
        problem = ""
        try:
            for start in starts:
                piece = requests[start : start + self.instance.depth]
                async with asyncio.timeout(self.instance.timeout_s):
                    while piece:
                        if connection is None or connection.closed:
                            connection = await self._connect()
                        answered = await connection.exchange(piece)
                        if not answered and problem:
                            break
                        problem = "" if answered else connection.fault or "it closed the connection before the answer"
                        statuses[start : start + len(answered)] = answered
                        start += len(answered)
                        piece = piece[len(answered) :]
                if problem:
                    break
        except TimeoutError:
            problem = f"no answer in {self.instance.timeout_s:g} s"
        except OSError as error:
            problem = f"cannot be reached: {_why(error)}"
        except BaseException:
            # Answers that were not waited for would be taken for those of the next purges.
            if connection is not None:
                connection.close()
            raise
        finally:
            if problem:
                for _ in starts:
                    pass  # a cache that does not answer is not asked the rest as well
                if connection is not None:
                    connection.close()
            self._idle.put_nowait(connection)
        return problem

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        return connection

    def _failure(self, what: str) -> PurgeFailed:
        return PurgeFailed(f"{self.instance.cache} ({self.instance.url})", what)


def _why(error: OSError) -> str:
    # Names that cannot be resolved have numbers of their own, below zero.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__
