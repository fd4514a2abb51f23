"""What must be true of a giant root when it has ended: everything is done, once, and readers see it."""

import asyncio
import datetime
import itertools
import time
from collections.abc import Iterable, Iterator

import aiohttp

from tests.system.giant_renderer import body
from tests.system.giant_site import RENDERED, Site, told
from wellspring.propagation.v1 import propagation_pb2
from wellspring_client.errors import DeadlineExceeded, NotFound, Unavailable

AT_ONCE = 16
SAMPLE = 2_000
_ACTIVE = propagation_pb2.Root.STATE_ACTIVE
_GOOD = (propagation_pb2.Root.STATE_DONE,)
Stored = dict[str, tuple[bytes, bytes]]
"""By page its version and its text."""


async def quiet(site: Site, limit_s: float) -> list[str]:
    """Waits until every acknowledged change has ended; what has not, after `limit_s` in which nothing was done."""
    waiting = list(site.ledger.changes)
    done: dict[str, int] = {}
    since = time.monotonic()
    while True:
        still: list[str] = []
        for change in waiting:
            if time.monotonic() - since > limit_s:
                return [f"the acknowledged change {one} has not ended: {done.get(one, 0):,} done" for one in waiting]
            root = await _root(site, change)
            if root is None or root.state not in _GOOD:
                still.append(change)
            # Leases that come and go are no progress.
            if root is not None and (root.state in _GOOD or root.progress.done > done.get(change, -1)):
                done[change], since = root.progress.done, time.monotonic()
        waiting = still
        if not waiting:
            return []
        await asyncio.sleep(0.5)


async def _root(site: Site, change: str) -> propagation_pb2.Root | None:
    """None while nobody knows it, or nobody answers."""
    try:
        return await site.client.propagation.get_change(change)
    except (NotFound, Unavailable, DeadlineExceeded):
        return None


async def problems(site: Site) -> list[str]:
    """Everything that is wrong: with what is stored, with how it came there, with what readers are given."""
    stored = await stored_pages(site)
    found = [*await wrongly_stored(site, stored), *await _stale(site, stored)]
    found += [f"a reader saw an older page after a newer one: {what}" for what in site.ledger.went_back]
    return found


async def stored_pages(site: Site) -> Stored:
    """What the storage service has."""
    return {
        record.key.decode(): (record.items[0].version, record.value)
        async for record in site.client.storage.namespace(RENDERED).scan()
    }


async def wrongly_stored(site: Site, stored: Stored) -> list[str]:
    """What is wrong with it, and with how it came there."""
    letters = [
        f"{one.resource} is a dead letter: {one.reason}, {one.detail}"
        async for one in site.client.propagation.admin.dead_letters()
    ]
    return [*letters, *_lost(site, stored), *await _doubled(site, stored)]


def _lost(site: Site, stored: Stored) -> Iterator[str]:
    """Pages that are not stored, or not at the newest revisions."""
    template = site.ledger.revisions["template"]
    for page in site.pages:
        wanted = body(site.ledger.revisions.get(f"page/{page}", 0), template)
        _, value = stored.get(page, (b"", b"nothing"))
        if value != wanted:
            yield f"{page}: {value.decode()!r} is stored, {wanted.decode()!r} is right"


async def _doubled(site: Site, stored: Stored) -> list[str]:
    """Pages of which an effect was stored twice, or after a newer one: a page's versions in the feed only rise."""
    last: dict[str, bytes] = {}
    wrong: list[str] = []
    writes = heartbeats = 0
    heartbeat = datetime.timedelta(seconds=1)
    async for answer in site.client.storage.namespace(RENDERED).watch(from_beginning=True, heartbeat=heartbeat):
        for event in answer.events:
            page = event.record.decode()
            writes += 1
            if event.version <= last.get(page, b""):
                wrong.append(f"{page}: stored at {event.version.hex()} after {last[page].hex()}")
            last[page] = max(event.version, last.get(page, b""))
        # The feed begins with a heartbeat; the next one comes when it has nothing more to tell.
        heartbeats += answer.HasField("heartbeat")
        if heartbeats > 1:
            break
    print(f"{writes:,} effective writes of {len(stored):,} pages")  # noqa: T201  the test's own word
    missed = [page for page, (version, _) in stored.items() if last.get(page) != version]
    return wrong + [f"{page}: its stored version is not the last one of the feed" for page in missed]


async def _stale(site: Site, stored: Stored) -> list[str]:
    """Pages that Varnish serves older than they are stored: of all that readers asked for, and some more."""
    step = max(1, len(site.pages) // SAMPLE)
    pages = iter(dict.fromkeys(itertools.chain(site.ledger.shown, site.pages[::step])))
    wrong: list[str] = []

    async def look(http: aiohttp.ClientSession, some: Iterable[str]) -> None:
        for page in some:
            served = await site.get(http, page)
            if served is None or served[0] != stored[page][0] or body(*served[1:]) != stored[page][1]:
                version, value = stored[page]
                given = told(served) if served is not None else "no page"
                wrong.append(f"{page}: Varnish serves {given}; version {version.hex()} is stored: {value.decode()!r}")

    async def look_on() -> None:
        async with site.reader() as http:
            await look(http, pages)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(look_on())
    return wrong
