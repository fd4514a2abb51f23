"""From an edit to a fleet's caches: the platform, a real broker and a relay, all of which are killed meanwhile. Every
page's last version is purged at every cache of the host."""

import asyncio
import json
import urllib.error
import urllib.request
from random import Random

import pytest

from libs.kafka.testing.broker import all_of, create, until
from libs.purge.naming import VERSION_HEADER
from services.propagation.relay.testing.host import Cache, RelayProcess
from tools.cli.fixture import platform_shell
from tools.demo import wiki
from tools.dev.servers.kafka import Kafka
from tools.platform.layout import Route
from tools.platform.site import Site

PAGES = 24
PARTITIONS = 3
TOPIC = "resource-purge"
STEPS = ("kill the executor", "stop the executor", "kill the relay", "kill the broker", "kill the engine", "kill all")
VIEWS = (
    wiki.VIEWS
    + f"""\
    retry: {{max_attempts: 100, initial_backoff: 20ms, max_backoff: 500ms}}
    lease_time: 3s
    publishes:
      - topic: {TOPIC}
        uris: ["https://wiki.example/wiki/{{path}}"]
        tags: [purge]
"""
)


@pytest.fixture(scope="module")
def kafka():
    with Kafka() as kafka:
        create(kafka, TOPIC, partitions=PARTITIONS)
        yield kafka


@pytest.fixture(scope="module")
def shell(kafka, tmp_path_factory):
    brokers = {"bootstrap_servers": [kafka.address], "delivery_timeout": "5s", "request_timeout": "5s"}
    services = {"executor": {"kafka": brokers, "heartbeat": "500ms"}}
    site = Site(routes=(Route(f"/{wiki.PREFIX}", wiki.PAGES, wiki.PREFIX),), views=VIEWS, services=services)
    with platform_shell(tmp_path_factory.mktemp("platform"), site) as started:
        for name in ("auditor", "session"):
            started.platform.kill(name)
        started.ok("storage", "namespaces", "create", wiki.PAGES)
        started.ok("storage", "namespaces", "create", wiki.SOURCES, "--bind", wiki.PREFIX)
        yield started


def last_of(cache):
    return {path: max(found) for path, found in cache.versions.items()}


def is_done(output):
    assert not output["dead_letter"], output
    return not output["pending"]


def test_every_edit_comes_to_every_cache_of_a_fleet_over_kills_of_all_on_the_way(kafka, shell):
    seed = 17
    print("seed", seed)
    rng = Random(seed)
    platform = shell.platform
    texts = {}

    def edit(number):
        name = f"P{rng.randrange(PAGES):02}"
        texts[name] = f"text {number:03}"
        shell.ok("storage", "put", wiki.SOURCES, name, texts[name])

    async def step(what, relay):
        if what == "stop the executor":
            platform.pause("executor")
            await asyncio.sleep(rng.uniform(0, 0.5))
            platform.resume("executor")
            return
        if what in ("kill the relay", "kill all"):
            await asyncio.to_thread(relay.kill)
        for name, process in (("the executor", "executor"), ("the engine", "propagation")):
            if what in (f"kill {name}", "kill all"):
                await asyncio.to_thread(platform.kill, process)
        if what in ("kill the broker", "kill all"):
            await asyncio.to_thread(kafka.brokers[0].restart)
        for name, process in (("the engine", "propagation"), ("the executor", "executor")):
            if what in (f"kill {name}", "kill all"):
                await asyncio.to_thread(platform.revive, process)
        if what in ("kill the relay", "kill all"):
            await asyncio.to_thread(relay.start)

    async def main():
        log = []
        inner, outer = Cache("inner", log), Cache("outer", log)
        for cache in (inner, outer):
            await cache.open()
        relay = RelayProcess(kafka, TOPIC, [inner, outer])
        await asyncio.to_thread(relay.start)
        try:
            for number, what in enumerate(STEPS):
                for n in range(8):
                    await asyncio.to_thread(edit, 8 * number + n)
                await step(what, relay)
            for name in (f"P{n:02}" for n in range(PAGES)):
                if name not in texts:
                    texts[name] = "last"
                    await asyncio.to_thread(shell.ok, "storage", "put", wiki.SOURCES, name, "last")
            # The engine follows the store: that nothing is pending says nothing before it has seen the last edit.
            await until(lambda: asyncio.to_thread(shown), "every page shows its last edit")
            await until(lambda: asyncio.to_thread(settled), "nothing is pending")
            versions = {f"/wiki/{name}": (await asyncio.to_thread(stored, name))[1] for name in texts}
            await until(lambda: last_of(inner) == last_of(outer) == versions, "the last versions at every cache")
            await check_topic()
        finally:
            relay.kill()
            for cache in (inner, outer):
                cache.server.close()

    def stored(name):
        """The page as a reader gets it, and its version."""
        url = f"http://{platform.layout.address('http')}/{wiki.PREFIX}{name}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return answer.read().decode(), answer.headers[VERSION_HEADER]
        except urllib.error.HTTPError:
            return "", ""

    def shown():
        return all(text in stored(name)[0] for name, text in texts.items())

    def settled():
        if shell.json("propagation", "status")["pending"]:
            return False
        outputs = shell.lines("propagation", "outputs", wiki.PAGES)
        return len(outputs) == PAGES and all(is_done(one) for one in outputs)

    async def check_topic():
        records = await all_of(kafka, TOPIC, PARTITIONS)
        places = {}
        for record in records:
            event = json.loads(record.value)
            assert event["meta"]["uri"].encode() == record.key and event["tags"] == ["purge"]
            places.setdefault(record.key, set()).add(record.partition)
        assert len(places) == PAGES and all(len(found) == 1 for found in places.values())
        print(f"{len(records)} messages for {8 * len(STEPS)} edits of {PAGES} pages")

    asyncio.run(main())


def test_pages_wait_for_brokers_that_are_stopped(kafka, shell):
    """Nothing is given up meanwhile, and nothing else than the breaker holds it back."""
    platform = shell.platform
    kafka.brokers[0].pause()
    try:
        shell.ok("storage", "put", wiki.SOURCES, "P00", "while the broker is stopped")

        async def tried():
            outputs = await asyncio.to_thread(shell.lines, "propagation", "outputs", wiki.PAGES)
            return any(not is_done(one) for one in outputs)

        asyncio.run(until(tried, "the page is not done"))
    finally:
        kafka.brokers[0].resume()

    async def done():
        outputs = await asyncio.to_thread(shell.lines, "propagation", "outputs", wiki.PAGES)
        letters = await asyncio.to_thread(shell.json, "propagation", "status")
        return all(is_done(one) for one in outputs) and not letters["pending"]

    asyncio.run(until(done, "the page is done"))
    assert platform.running("executor")
