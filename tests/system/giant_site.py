"""A site of very many pages that all use one template: its views, its editors and readers."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp

from tests.system.giant_renderer import PAGES, PREFIX, TEMPLATE, shown
from wellspring_client import aio
from wellspring_client.errors import DeadlineExceeded, Unavailable

SOURCES, VIEW, RENDERED = "sources", "page", "pages"
LEASE_S = 4.0
VIEWS = f"""
views:
  - name: {VIEW}
    resource_prefixes: ["{PAGES}"]
    source_namespace: {SOURCES}
    source_prefix: "{PREFIX}"
    render: {{entry_point: {{function: "tests.system.giant_renderer:render"}}, timeout: 10s}}
    store: {{namespace: {RENDERED}, record: "{{name}}"}}
    purge: {{urls: ["/page/{{path}}"]}}
    retry: {{max_attempts: 100, initial_backoff: 100ms, max_backoff: 1s}}
    max_concurrency: 512
    lease_time: {LEASE_S:g}s
"""
# Few batches, but large: items of a batch that was lost are lent again in batches of an eighth.
WORK = {"lease_items": 4_000, "leases": 2, "slice_items": 250, "slices": 4, "heartbeat": "1s", "lease_wait": "2s"}
CALL_S = 10.0
_AGAIN_S = 0.05
_HOT = 500
_Answer = TypeVar("_Answer")
Seen = tuple[bytes, int, int]
"""What a reader was given of a page: its version, its revision, the template's."""


@dataclass
class Ledger:
    """What was acknowledged, and what readers were given."""

    revisions: dict[str, int] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    shown: dict[str, Seen] = field(default_factory=dict)
    reads: int = 0
    hits: int = 0
    went_back: list[str] = field(default_factory=list)

    def note(self, page: str, before: Seen | None, now: Seen) -> None:
        """A reader asked for the page when `before` was the newest that anybody had been given, and got `now`."""
        self.reads += 1
        if before is not None and _older(now, before):
            self.went_back.append(f"{page}: {told(before)}, then {told(now)}")
        last = self.shown.get(page)
        self.shown[page] = now if last is None else (max(now[0], last[0]), max(now[1], last[1]), max(now[2], last[2]))


def _older(now: Seen, before: Seen) -> bool:
    return now[0] < before[0] or now[1] < before[1] or now[2] < before[2]


def told(seen: Seen) -> str:
    """For people."""
    return f"version {seen[0].hex()} with page {seen[1]} and template {seen[2]}"


class Site:
    """The pages of a running platform. Each source has one writer, so its revisions are written in order."""

    def __init__(self, client: aio.Client, cache: str, pages: int, seed: int) -> None:
        self.client = client
        self.ledger = Ledger()
        self.pages = [f"{number:07}" for number in range(pages)]
        self._sources = client.storage.namespace(SOURCES)
        self._cache = cache
        self._rng = random.Random(seed)  # noqa: S311  a seeded test
        self._hot = self._rng.sample(self.pages, min(_HOT, pages))
        self._edited = asyncio.Event()
        self._stopped = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, storage: str, propagation: str | Sequence[str], cache: str, pages: int, seed: int
    ) -> AsyncIterator["Site"]:
        """The site at services that have just started, behind the cache at a URL: its pages are declared, none is
        rendered."""
        async with aio.connect(storage=storage, propagation=propagation, timeout=CALL_S) as client:
            await client.storage.create_namespace(RENDERED, description="what readers see")
            await client.storage.create_namespace(SOURCES, resource_prefix=PREFIX, description="what editors write")
            site = cls(client, cache, pages, seed)
            await client.propagation.declare(VIEW, ((PAGES + page, [TEMPLATE]) for page in site.pages), timeout=600)
            yield site

    async def edit_template(self) -> None:
        """The root of everything: every page shows the template."""
        await self._write("template")

    def live(self, tasks: asyncio.TaskGroup, readers: int) -> None:
        """An editor of pages until `stop_editing`, and readers with a connection each until `stop`."""
        tasks.create_task(self._edit_pages(self._own_rng()))
        for _ in range(readers):
            tasks.create_task(self._read_on(self._own_rng()))

    def stop_editing(self) -> None:
        """No edit begins any more; readers go on."""
        self._edited.set()

    def stop(self) -> None:
        """Nobody begins anything any more."""
        self._stopped.set()

    async def get(self, http: aiohttp.ClientSession, page: str) -> Seen | None:
        """What Varnish has for a reader of the page; None for an answer without a page, or none at all."""
        try:
            async with http.get(f"{self._cache}/page/{page}") as answer:
                served = await answer.read()
                self.ledger.hits += answer.headers.get("x-cache") == "HIT"
                if answer.status != 200:
                    return None
                return bytes.fromhex(answer.headers["X-Wellspring-Version"]), *shown(served)
        except (aiohttp.ClientError, TimeoutError):
            return None

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A reader's connection, kept for all that he reads."""
        connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=60)
        timeout = aiohttp.ClientTimeout(CALL_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            yield http

    async def until_answered(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Sends the same again while nobody answers."""
        while True:
            try:
                return await call()
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(_AGAIN_S)

    async def _edit_pages(self, rng: random.Random) -> None:
        while not self._edited.is_set():
            await self._write("page/" + rng.choice(self._hot if rng.random() < 0.5 else self.pages))
            await _pause(rng.uniform(0.02, 0.2), self._edited)

    async def _write(self, name: str) -> None:
        revision = self.ledger.revisions.get(name, 0) + 1
        token = self._sources.new_token()
        receipt = await self.until_answered(lambda: self._sources.put(name, b"%d" % revision, token=token))
        self.ledger.revisions[name] = revision
        self.ledger.changes.append(receipt.change_id)

    async def _read_on(self, rng: random.Random) -> None:
        async with self.reader() as http:
            while not self._stopped.is_set():
                page = rng.choice(self._hot if rng.random() < 0.9 else self.pages)
                before = self.ledger.shown.get(page)
                now = await self.get(http, page)
                if now is not None:
                    self.ledger.note(page, before, now)
                await _pause(0.01, self._stopped)

    def _own_rng(self) -> random.Random:
        return random.Random(self._rng.randrange(1 << 30))  # noqa: S311  a seeded test


async def _pause(seconds: float, unless: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(unless.wait(), seconds)
