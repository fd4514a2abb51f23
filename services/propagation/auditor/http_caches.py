"""Caches over HTTP: a GET as a reader sends it, and the purges of libs/purge."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from libs.ids.ids import VERSION_BYTES
from libs.purge.caches import Caches
from libs.purge.client import PurgeClient, purge_of_url
from libs.purge.naming import VERSION_HEADER
from services.propagation.auditor.ports import Seen

READER = "wellspring-auditor"
"""The User-Agent of its looks, by which statistics of readers can leave them out."""
_CHUNK = 1 << 16


class HttpCache:
    """One instance of a cache."""

    def __init__(
        self,
        client: PurgeClient,
        session: aiohttp.ClientSession,
        rebound_s: float,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._client = client
        self._session = session
        self._rebound_s = rebound_s
        self._sleep = sleep

    @property
    def name(self) -> str:
        """The cache's name in the configuration."""
        return self._client.instance.cache

    @property
    def url(self) -> str:
        """http://host:port of this instance."""
        return self._client.instance.url.rstrip("/")

    async def look(self, page: str) -> Seen:
        """The answer that a reader of the page gets, read to its end; a status of 0 when none came in time."""
        instance = self._client.instance
        purge = purge_of_url(page)
        headers = {"Host": purge.host or instance.host or urlsplit(instance.url).netloc, "User-Agent": READER}
        try:
            async with (
                asyncio.timeout(instance.timeout_s),
                self._session.get(
                    URL(self.url + purge.path, encoded=True), headers=headers, allow_redirects=False
                ) as answer,
            ):
                async for _ in answer.content.iter_chunked(_CHUNK):
                    pass
                return Seen(answer.status, _version(answer.headers.get(VERSION_HEADER, "")))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return Seen(0)

    async def purge(self, page: str, min_version: bytes) -> None:
        """Forgets what is older; where the configuration asks for it, twice. Raises PurgeFailed."""
        purge = purge_of_url(page, min_version)
        for wait_s in (0.0, self._rebound_s) if self._rebound_s else (0.0,):
            await self._sleep(wait_s)
            for failure in (await self._client.purge([purge])).values():
                raise failure


class HttpCaches:
    """All instances of all caches, inner before outer. Close it when done."""

    def __init__(self, caches: Caches, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._caches = caches
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=64, limit_per_host=16),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept-Encoding",),
        )
        self.instances = [
            HttpCache(client, self._session, layer.rebound_s, sleep)
            for layer in caches.layers
            for client in layer.instances
        ]

    async def close(self) -> None:
        """Ends the connections."""
        await self._session.close()
        await self._caches.close()


def _version(header: str) -> bytes | None:
    """16 bytes out of the header's digits; None when it holds none."""
    try:
        version = bytes.fromhex(header)
    except ValueError:
        return None
    return version if len(version) == VERSION_BYTES else None
