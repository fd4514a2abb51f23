"""Propagation in two data centres: each view is rendered in its home, and both purge their own caches.

One storage service stands for a store that is replicated; each data centre has an engine, an executor and a cache.
"""

import asyncio
import contextlib
import os
import random
import sys
from collections import defaultdict

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

    def __init__(self):
        super().__init__()
        self.told = defaultdict(list)

    def take(self, path, version):
        self.told[path].append(version.hex())


class Place:
    """A data centre: its engine, its executor, its cache; the link over which the other one reaches its engine."""

    def __init__(self, folder, name, ports, storage, views, cache):
        self.engine = Served(
            folder / name,
            "propagation",
            "grpcio",
            {
                "datacentre": name,
                "views_file": str(views),
                "storage": {"addresses": [storage]},
                "homes": [
                    {"datacentre": other, "propagation": {"addresses": [f"{AFAR}:{port}"]}}
                    for other, port in ports.items()
                    if other != name
                ],
                "follow": {"refresh": "100ms"},
            },
            ports[name],
        )
        self.link = Link(AFAR, NEAR, [ports[name]])
        executor = folder / f"{name}-executor"
        executor.mkdir()
        config = {
            "server": {"listen": [f"127.0.0.1:{free_port()}"]},
            "engine": {"addresses": [self.engine.address], "timeout": "40s"},
            "storage": {"addresses": [storage]},
            "caches": [{"name": name, "urls": [cache.url]}],
        }
        (executor / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [sys.executable, "-m", MODULES["executor"], "--config", str(executor / "config.yaml")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.executor = Process(f"{name}-executor", command, executor, environment)
        self.cache = cache

    def start(self):
        """Both processes."""
        self.engine.start()
        self.executor.start()

    def kill(self):
        """Both processes, for good."""
        self.engine.kill()
        self.executor.kill()
        self.link.close()


class Site:
    """Both data centres, and a client of each engine."""

    def __init__(self, east, west, client, west_client):
        self.east, self.west, self.client, self.west_client = east, west, client, west_client
        self.links = [east.link, west.link]
        self.sources = client.storage.namespace("sources")

    async def edit(self, page, revision):
        """One write of a page's text."""
        await self.sources.put(page.removeprefix("wiki/"), str(revision).encode())

    async def stored(self):
        """Of each page the version that the store has it with, in hex."""
        items = await self.client.storage.namespace("pages").get_many(PAGES)
        return {page: item.version.hex() if item is not None else "" for page, item in zip(PAGES, items, strict=True)}

    @property
    def caches(self):
        """Of both."""
        return self.east.cache, self.west.cache

    async def shows(self, revisions, *caches):
        """Until the store has the pages at these revisions, and the caches were told of that."""
        async with asyncio.timeout(PATIENT_S):
            while True:
                items = await self.client.storage.namespace("pages").get_many(PAGES)
                shown = [item.value if item is not None else b"" for item in items]
                wanted = [f"{page.removeprefix('wiki/')} {revisions[page]}".encode() for page in PAGES]
                if shown == wanted:
                    break
                await asyncio.sleep(0.05)
        for cache in caches:
            await self.purged(cache)

    async def purged(self, cache):
        """Until the cache was told of every page as it is stored; one may be stored again, with the same bytes."""
        async with asyncio.timeout(PATIENT_S):
            while True:
                stored = await self.stored()
                if all(stored[page] in cache.told[f"/{page}"] for page in PAGES):
                    break
                await asyncio.sleep(0.02)

    async def digested(self, revisions):
        """Until the digest shows them all, and both caches were told of it as it is stored."""
        digests = self.client.storage.namespace("digests")
        wanted = b"\n".join(f"{page.removeprefix('wiki/')} {revisions[page]}".encode() for page in PAGES)
        async with asyncio.timeout(PATIENT_S):
            while True:
                (item,) = await digests.get_many(["wiki/digest"])
                told = [cache.told["/digest"] for cache in self.caches]
                if item is not None and item.value == wanted and all(item.version.hex() in one for one in told):
                    break
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(folder, lease="300s"):
    """The site, with its pages at revision 1 and the digest of them. Who is killed has its leases end soon."""
    views = folder / "views.yaml"
    views.write_text(VIEWS.replace("LEASE", lease), encoding="utf-8")
    async with contextlib.AsyncExitStack() as stack:
        storage = Served(folder / "storage", "storage", "grpcio", {})
        stack.callback(storage.kill)
        await asyncio.to_thread(storage.start)
        caches = [await stack.enter_async_context(Cache().running()) for _ in range(2)]
        ports = {name: free_port(NEAR, AFAR) for name in ("east", "west")}
        east, west = (
            Place(folder, name, ports, storage.address, views, cache) for name, cache in zip(ports, caches, strict=True)
        )
        for place in (east, west):
            stack.callback(place.kill)
            await asyncio.to_thread(place.start)
        client = await stack.enter_async_context(
            aio.connect(storage=storage.address, propagation=east.engine.address, timeout=30)
        )
        west_client = await stack.enter_async_context(aio.connect(propagation=west.engine.address, timeout=30))
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


def test_n20_a_data_centre_that_was_cut_off_catches_up_with_no_effect_twice(tmp_path):
    async def story():
        async with running(tmp_path) as site:
            for link in site.links:
                link.cut()
            before = {page: list(site.west.cache.told[f"/{page}"]) for page in PAGES}
            for revision in (2, 3, 4):
                for page in PAGES:
                    await site.edit(page, revision)
                async with asyncio.timeout(PATIENT_S):
                    await site.purged(site.east.cache)
            revisions = dict.fromkeys(PAGES, 4)
            await site.shows(revisions, site.east.cache)
            assert {page: site.west.cache.told[f"/{page}"] for page in PAGES} == before, "cut off, it hears nothing"
            for link in site.links:
                link.mend()
            await site.shows(revisions, *site.caches)
            await site.digested(revisions)
            stored = await site.stored()
            for page in PAGES:
                after = site.west.cache.told[f"/{page}"][len(before[page]) :]
                assert after == [stored[page]], "once, for what is newest; what lay between needs nothing"

    asyncio.run(story())


def test_n19_deliveries_that_are_killed_and_repeated_end_with_the_same_versions_in_both(tmp_path):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)

    async def story():
        async with running(tmp_path, "3s") as site:
            revisions = dict.fromkeys(PAGES, 1)
            for _ in range(4):
                for _ in range(30):
                    page = rng.choice(PAGES)
                    revisions[page] += 1
                    await site.edit(page, revisions[page])
                trouble = rng.choice([site.west.engine, site.west.executor, site.east.engine, *site.links])
                if isinstance(trouble, Link):
                    trouble.cut()
                    await asyncio.sleep(rng.uniform(0, 0.5))
                    trouble.mend()
                else:
                    trouble.kill()
                    await asyncio.to_thread(trouble.start)
            await site.shows(revisions, *site.caches)
            await site.digested(revisions)
            hashes = []
            for client in (site.client, site.west_client):
                outputs = {one.resource: one async for one in client.propagation.admin.outputs("page")}
                hashes.append({page: outputs[page].hash for page in PAGES})
            assert hashes[0] == hashes[1]

    asyncio.run(story())
