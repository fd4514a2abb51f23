"""Many renders of few pages at once, each stored and purged in its own time over connections that break: no reader sees
an older version after a newer one, and at the end every page is the newest that was stored.

SEED=… repeats a run's choices, ROUNDS=… makes it longer.
"""

import asyncio
import os
import random
import sys

import aiohttp
import pytest

from libs.purge.client import Purge
from services.propagation.executor.ports import Output
from tests.caches.rig import NAMESPACE, running
from tests.caches.site import version

SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
ROUNDS = int(os.environ.get("ROUNDS", "400"))
PAGES = 12
RENDERERS = 8
READERS = 12


class Storm:
    """Renderers that take leases in order and finish in any; readers that compare what they see with what they saw."""

    def __init__(self, rig, rng):
        self.rig, self.rng = rig, rng
        self.lease = 0
        self.left = ROUNDS
        self.newest = {}
        self.seen = {}
        self.reads = self.failed_purges = self.failed_reads = 0
        self.stopped = asyncio.Event()

    @property
    def lost(self):
        """Connections that broke so far."""
        return sum(wire.lost for wire in self.rig.wires)

    async def render(self):
        while self.left > 0 or not self.lost:
            self.left -= 1
            self.lease += 1
            lease, names = self.lease, self.rng.sample(range(PAGES), self.rng.randint(1, 4))
            await asyncio.sleep(self.rng.random() * 0.03)
            outputs = [Output(f"{n}".encode(), f"{n} {lease}".encode(), "text/plain", (f"t{n}",)) for n in names]
            assert not any(await self.rig.documents.put(NAMESPACE, b"", outputs, version(lease)))
            for n in names:
                self.newest[n] = max(self.newest.get(n, 0), lease)
            await asyncio.sleep(self.rng.random() * 0.02)
            purges = [Purge(f"/p/{n}", version(lease)) for n in names]
            if self.rng.random() < 0.3:
                purges.append(Purge(min_version=version(lease), tags=tuple(f"t{n}" for n in names)))
            while await self.rig.caches.purge(purges):
                self.failed_purges += 1
                await asyncio.sleep(0.05)

    async def read(self, http):
        while not self.stopped.is_set():
            n = self.rng.randrange(PAGES)
            before = self.seen.get(n, 0)
            shown = await self.shown(http, n)
            if shown is None:
                self.failed_reads += 1
                await asyncio.sleep(0.02)
                continue
            assert shown >= before, f"page {n}: {shown} after {before} was seen"
            self.seen[n] = max(shown, self.seen.get(n, 0))
            self.reads += 1

    async def shown(self, http, n):
        """The version of a page that readers get now: 0 when there is none, None when nobody answers."""
        try:
            async with http.get(f"{self.rig.varnish.url}/p/{n}") as answer:
                body = await answer.text()
        except aiohttp.ClientError:
            return None
        return int(body.split()[1]) if answer.status == 200 else 0 if answer.status == 404 else None

    async def kill_varnish(self, times):
        for _ in range(times):
            await asyncio.sleep(0.5 + self.rng.random())
            await asyncio.to_thread(self.rig.varnish.restart)

    async def run(self, kills):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http, asyncio.timeout(300):
            async with asyncio.TaskGroup() as readers:
                for _ in range(READERS):
                    readers.create_task(self.read(http))
                async with asyncio.TaskGroup() as renderers:
                    for _ in range(RENDERERS):
                        renderers.create_task(self.render())
                    renderers.create_task(self.kill_varnish(kills))
                while self.reads <= ROUNDS:  # noqa: ASYNC110 - the readers tell nobody
                    await asyncio.sleep(0.05)
                self.stopped.set()
            assert {n: await self.shown(http, n) for n in self.newest} == self.newest


@pytest.mark.parametrize("kills", [0, 3])
def test_no_reader_sees_an_older_version_after_a_newer_one(tmp_path, kills):
    print(f"SEED={SEED} repeats this run's choices", file=sys.stderr)
    rng = random.Random(SEED)

    async def main():
        async with running(tmp_path, rng, 0.03) as rig:
            storm = Storm(rig, rng)
            await storm.run(kills)
            print(
                f"{storm.lease} renders, {storm.reads} reads ({storm.failed_reads} failed), {storm.lost} connections "
                f"lost, {storm.failed_purges} purges failed and were sent again",
                file=sys.stderr,
            )

    asyncio.run(main())
