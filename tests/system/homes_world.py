"""Two data centres for tests: each view is rendered in its home, and both purge their own caches.

One storage service stands for a store that is replicated; each data centre has an executor, a cache, and an engine, or
several that share the shards of a log on a broker.
"""

import asyncio
import contextlib
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.system.homes_renderer import PAGES
from tests.system.noting_cache import NotingCache
from tests.system.served import Served
from tools.dev.servers.link import Link
from tools.dev.servers.ports import free_port
from tools.dev.servers.process import Process
from tools.platform.layout import MODULES
from wellspring_client import aio

PATIENT_S = 120
NEAR, AFAR = "127.0.0.1", "127.1.0.1"
"""An engine's own address, and the one in front of it that the other data centre has."""
VIEWS = """
views:
  - name: page
    home: east
    resource_prefixes: ["wiki/page/"]
    source_namespace: sources
    source_prefix: "wiki/"
    render: {entry_point: {function: "tests.system.kills_renderer:render"}}
    store: {namespace: pages}
    purge: {urls: ["/wiki/page/{path}"]}
    retry: {max_attempts: 100, initial_backoff: 100ms, max_backoff: 1s}
    lease_time: LEASE
  - name: digest
    home: west
    resource_prefixes: ["wiki/digest"]
    source_namespace: pages
    render: {entry_point: {function: "tests.system.homes_renderer:digest"}}
    store: {namespace: digests}
    purge: {urls: ["/digest"]}
    retry: {max_attempts: 100, initial_backoff: 100ms, max_backoff: 1s}
    lease_time: LEASE
"""


class Cache(NotingCache):
    """Notes of each path all minimum versions in hex, in order."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.told: defaultdict[str, list[str]] = defaultdict(list)

    def take(self, path: str, version: bytes) -> None:
        """See NotingCache."""
        self.told[path].append(version.hex())


class Place:
    """A data centre: its engines, its executor, its cache; the link over which the other one reaches its engines.

    With `brokers` the engines are a fleet of as many shards; else there is one.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        ports: Mapping[str, Sequence[int]],
        storage: str,
        views: Path,
        cache: Cache,
        brokers: str,
    ) -> None:
        config: dict[str, Any] = {
            "datacentre": name,
            "views_file": str(views),
            "storage": {"addresses": [storage]},
            "homes": [
                {"datacentre": other, "propagation": {"addresses": [f"{AFAR}:{port}" for port in there]}}
                for other, there in ports.items()
                if other != name
            ],
            "follow": {"refresh": "100ms"},
        }
        self.engines = []
        for at, port in enumerate(ports[name]):
            own = folder / f"{name}-{at}"
            backend = {"backend": {"sharded": _sharded(own, name, len(ports[name]), brokers)}} if brokers else {}
            self.engines.append(Served(own, "propagation", "grpcio", config | backend, port))
        self.link = Link(AFAR, NEAR, ports[name])
        executor = folder / f"{name}-executor"
        executor.mkdir()
        config = {
            "server": {"listen": [f"127.0.0.1:{free_port()}"]},
            "engine": {"addresses": self.addresses, "timeout": "40s"},
            "storage": {"addresses": [storage]},
            "caches": [{"name": name, "urls": [cache.url]}],
        }
        (executor / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [sys.executable, "-m", MODULES["executor"], "--config", str(executor / "config.yaml")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.executor = Process(f"{name}-executor", command, executor, environment)
        self.cache = cache

    @property
    def addresses(self) -> list[str]:
        """Of its engines."""
        return [engine.address for engine in self.engines]

    @property
    def engine(self) -> Served:
        """Of one engine alone."""
        (engine,) = self.engines
        return engine

    def start(self) -> None:
        """All processes."""
        for engine in self.engines:
            engine.start()
        self.executor.start()

    def kill(self) -> None:
        """All processes, for good."""
        for engine in self.engines:
            engine.kill()
        self.executor.kill()
        self.link.close()


def _sharded(folder: Path, name: str, shards: int, brokers: str) -> dict[str, Any]:
    kafka = {"bootstrap_servers": [brokers], "replication": 1, "topic_prefix": f"{name}.", "group": name}
    return {"kafka": kafka, "shards": shards, "session_timeout": "6s", "embedded": {"path": str(folder / "data")}}


class Site:
    """Both data centres, and a client of each engine."""

    def __init__(self, east: Place, west: Place, client: aio.Client, west_client: aio.Client) -> None:
        self.east, self.west, self.client, self.west_client = east, west, client, west_client
        self.links = [east.link, west.link]
        self.sources = client.storage.namespace("sources")

    async def edit(self, page: str, revision: int) -> None:
        """One write of a page's text."""
        await self.sources.put(page.removeprefix("wiki/"), str(revision).encode())

    async def stored(self) -> dict[str, str]:
        """Of each page the version that the store has it with, in hex."""
        items = await self.client.storage.namespace("pages").get_many(PAGES)
        return {page: item.version.hex() if item is not None else "" for page, item in zip(PAGES, items, strict=True)}

    @property
    def caches(self) -> tuple[Cache, Cache]:
        """Of both."""
        return self.east.cache, self.west.cache

    async def shows(self, revisions: Mapping[str, int], *caches: Cache) -> None:
        """Until the store has the pages at these revisions, and the caches were told of that."""

        async def wrong() -> list[str]:
            items = await self.client.storage.namespace("pages").get_many(PAGES)
            shown = {page: item.value if item is not None else b"" for page, item in zip(PAGES, items, strict=True)}
            wanted = {page: _shown(page, revisions) for page in PAGES}
            return [
                f"{page}: stored {shown[page]!r}, not {wanted[page]!r}" for page in PAGES if shown[page] != wanted[page]
            ]

        await _until_right(wrong)
        for cache in caches:
            await self.purged(cache)

    async def purged(self, cache: Cache) -> None:
        """Until the newest that the cache was told of every page is as it is stored, whoever stored it how often."""

        async def wrong() -> list[str]:
            stored = await self.stored()
            return [told for page in PAGES if (told := _untold(cache, page, stored[page]))]

        await _until_right(wrong)

    async def digested(self, revisions: Mapping[str, int]) -> None:
        """Until the digest shows them all, and both caches were told of it as it is stored."""
        digests = self.client.storage.namespace("digests")
        wanted = b"\n".join(_shown(page, revisions) for page in PAGES)

        async def wrong() -> list[str]:
            (item,) = await digests.get_many(["wiki/digest"])
            if item is None or item.value != wanted:
                return [f"the digest: stored {item and item.value!r}, not {wanted!r}"]
            return [told for cache in self.caches if (told := _untold(cache, "digest", item.version.hex()))]

        await _until_right(wrong)

    async def at_rest(self, revisions: Mapping[str, int]) -> None:
        """Until both engines have every page and wait for none; then all of it is shown, and told to both caches."""

        async def wrong() -> list[str]:
            found = []
            for name, client in (("east", self.client), ("west", self.west_client)):
                outputs = {one.resource: one async for one in client.propagation.admin.outputs("page")}
                found += [f"{name} has {one}" for one in outputs.values() if one.pending or one.dead_letter]
                found += [f"{name} has no {page}" for page in PAGES if page not in outputs]
            return found

        await _until_right(wrong)
        await self.shows(revisions, *self.caches)
        await self.digested(revisions)


def _shown(page: str, revisions: Mapping[str, int]) -> bytes:
    return f"{page.removeprefix('wiki/')} {revisions[page]}".encode()


def _untold(cache: Cache, path: str, stored: str) -> str:
    """What is wrong where the newest version that the cache was told is not the one stored; nothing where it is."""
    told = cache.told[f"/{path}"]
    if stored and stored == max(told, default=""):
        return ""
    return f"{path}: stored is {stored or 'nothing'}, the cache of {cache.name} was told {told[-5:]}"


async def _until_right(wrong: Callable[[], Awaitable[list[str]]]) -> None:
    """Until nothing is wrong; what is still so at the end of all patience is said."""
    found: list[str] = []
    try:
        async with asyncio.timeout(PATIENT_S):
            while True:
                found = await wrong()
                if not found:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError("\n".join(["still:", *found])) from None


@contextlib.asynccontextmanager
async def running(folder: Path, lease: str = "300s", brokers: str = "", engines: int = 1) -> AsyncIterator[Site]:
    """The site, with its pages at revision 1 and the digest of them. With `brokers` each data centre has so many
    engines."""
    views = folder / "views.yaml"
    views.write_text(VIEWS.replace("LEASE", lease), encoding="utf-8")
    async with contextlib.AsyncExitStack() as stack:
        storage = Served(folder / "storage", "storage", "grpcio", {})
        stack.callback(storage.kill)
        await asyncio.to_thread(storage.start)
        caches = [Cache(name) for name in ("east", "west")]
        for cache in caches:
            await stack.enter_async_context(cache.running())
        ports = {cache.name: [free_port(NEAR, AFAR) for _ in range(engines)] for cache in caches}
        east, west = (
            Place(folder, name, ports, storage.address, views, cache, brokers)
            for name, cache in zip(ports, caches, strict=True)
        )
        for place in (east, west):
            stack.callback(place.kill)
            await asyncio.to_thread(place.start)
        client = await stack.enter_async_context(
            aio.connect(storage=storage.address, propagation=east.addresses, timeout=30)
        )
        west_client = await stack.enter_async_context(aio.connect(propagation=west.addresses, timeout=30))
        for name in ("pages", "digests"):
            await client.storage.create_namespace(name)
        await client.storage.create_namespace("sources", resource_prefix="wiki/")
        site = Site(east, west, client, west_client)
        for page in PAGES:
            await site.edit(page, 1)
        await site.shows(dict.fromkeys(PAGES, 1), *site.caches)
        # The digest is known from its first change on.
        await site.sources.put("digest", b"begun")
        await site.digested(dict.fromkeys(PAGES, 1))
        yield site
