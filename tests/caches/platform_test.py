"""A whole deployment and its caches: what is read most is rendered first; a page that a cache refuses is a dead letter
with the reason, and every other page is done; a purge by hand reaches every cache."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp

from libs.purge.hostile_cache import Cache, running
from tests.caches.renderer import LOG_VARIABLE, PREFIX, TEMPLATE
from tools.platform import ports
from tools.platform.layout import Layout, Route, fixed_ports
from tools.platform.platform import Platform
from wellspring_client import aio
from wellspring_client.errors import NotFound

PAGES = 400
HOT = [f"{PREFIX}page/{number:03}" for number in (7, 99, 198, 333, 399)]
WAIT_S = 300
VIEWS = """
views:
  - name: html
    resource_prefixes: [w/page/]
    source_namespace: sources
    source_prefix: w/
    render: {entry_point: {function: "tests.caches.renderer:render"}}
    store: {namespace: html}
    purge: {urls: ["/w/page/{path}"], tags: ["one-{name}"]}
    retry: {max_attempts: 2, initial_backoff: 10ms, max_backoff: 20ms}
"""


class Site:
    """A running platform, its SDK client, the cache outside the gateway, and what was rendered."""

    def __init__(self, platform, client, http, edge, log):
        self.platform, self.client, self.http, self.edge, self.log = platform, client, http, edge, log
        self.at = f"http://{platform.addresses['http']}"

    async def edit(self, name, text):
        """Writes a source, and waits until all that depends on it is finished."""
        receipt = await self.client.storage.namespace("sources").put(name.removeprefix(PREFIX), text)

        async def finished():
            try:
                return (await self.client.propagation.get_change(receipt.change_id)).HasField("finish_time")
            except NotFound:
                return False  # not taken in yet

        await until(finished)

    async def get(self, path):
        async with self.http.get(f"{self.at}/{path}") as answer:
            return answer.status, await answer.text()

    async def idle(self):
        """Whether everything that was written has been rendered."""
        status = await self.client.propagation.admin.status()
        return bool(self.log.read_text()) and not status.pending and not status.active_roots

    def rendered(self):
        return self.log.read_text().split()

    async def letters(self):
        return [letter async for letter in self.client.propagation.admin.dead_letters()]


async def until(holds):
    """Asks until it is so. Raises TimeoutError."""
    async with asyncio.timeout(WAIT_S):
        while not await holds():  # noqa: ASYNC110  other processes
            await asyncio.sleep(0.05)


@asynccontextmanager
async def site(folder, monkeypatch, pages=PAGES, **executor):
    log = folder / "rendered"
    log.touch()
    monkeypatch.setenv(LOG_VARIABLE, str(log))
    numbers = fixed_ports(ports.free_base())
    async with running() as edge:
        caches = [
            {"name": "gateway", "urls": [f"http://127.0.0.1:{numbers['http']}"]},
            {"name": "edge", "kind": "varnish", "urls": [edge.url], "timeout": "30s", "pipeline": 1},
        ]
        layout = Layout(
            data=folder / "data",
            ports=numbers,
            routes=(Route("/w/", "html", PREFIX),),
            views=VIEWS,
            overrides={
                "gateway": {"report_interval": "100ms"},
                "propagation": {"caches": caches},
                "executor": {"caches": caches, **executor},
            },
        )
        platform = Platform(layout, restart=False)
        await asyncio.to_thread(platform.start)
        try:
            addresses = {name: platform.addresses[name] for name in ("storage", "propagation")}
            async with aio.connect(**addresses) as client, aiohttp.ClientSession() as http:
                await client.storage.create_namespace("html")
                await client.storage.create_namespace("sources", resource_prefix=PREFIX)
                names = [(f"page/{number:03}", b"") for number in range(pages)]
                await client.storage.namespace("sources").put_many([(TEMPLATE.removeprefix(PREFIX), b"0"), *names])
                found = Site(platform, client, http, edge, log)

                async def filled():
                    return len(set(found.rendered())) == pages and await found.idle()

                await until(filled)
                yield found
        finally:
            await asyncio.to_thread(platform.stop)


def test_the_pages_that_readers_ask_for_are_rendered_first(tmp_path, monkeypatch):
    async def main():
        async with site(tmp_path, monkeypatch, lease_items=16, leases=1, slices=1) as world:
            for _ in range(10):
                for name in HOT:
                    assert (await world.get(name))[0] == 200

            async def told():
                return 'outcome="told"} 50.0' in (await world.get("metrics"))[1]

            await until(told)
            before = len(world.rendered())
            await world.edit(TEMPLATE, b"1")
            order = world.rendered()[before:]
            assert len(order) == PAGES and set(HOT) <= set(order[: PAGES // 8]), [order.index(name) for name in HOT]

    asyncio.run(main())


def test_a_page_that_a_cache_refuses_is_a_dead_letter_and_the_rest_is_done(tmp_path, monkeypatch):
    poison = f"{PREFIX}page/005"

    class Poisoned(Cache):
        refusing: bool = True

        async def _answer(self, what, writer):
            refuse = self.refusing and self.seen[-1][0] == f"PURGE /{poison} HTTP/1.1"
            return await super()._answer(500 if refuse else what, writer)

    monkeypatch.setattr("libs.purge.hostile_cache.Cache", Poisoned)

    async def main():
        async with site(tmp_path, monkeypatch, pages=40) as world:
            world.edge.refusing = False
            await world.client.propagation.admin.replay_dead_letters()
            await world.edit(TEMPLATE, b"1")
            world.edge.refusing = True
            await world.edit(TEMPLATE, b"2")
            (letter,) = await world.letters()
            assert (letter.resource, letter.reason, letter.attempts) == (poison, "PURGE_FAILED", 2)
            assert letter.detail == f"cache edge ({world.edge.url}): PURGE /{poison} answered 500"
            bodies = [await world.get(f"{PREFIX}page/{number:03}") for number in range(40)]
            assert bodies == [(200, f"{PREFIX}page/{number:03} 2") for number in range(40)]
            world.edge.refusing = False
            assert await world.client.propagation.admin.replay_dead_letters() == 1
            await until(world.idle)
            assert await world.letters() == []

    asyncio.run(main())


def test_a_purge_by_hand_reaches_every_cache(tmp_path, monkeypatch):
    async def main():
        async with site(tmp_path, monkeypatch, pages=2) as world:
            for fields in ({"resource": "w/page/001"}, {"tag": "one-001"}, {"url": "/w/page/001"}):
                world.edge.seen.clear()
                response = await world.client.propagation.admin.purge(**fields)
                assert [(one.cache, one.status.code) for one in response.results] == [("gateway", 0), ("edge", 0)]
                assert world.edge.seen

    asyncio.run(main())
