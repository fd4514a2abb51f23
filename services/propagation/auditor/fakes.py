"""A small site for tests: an engine, a store, executors and caches in memory, each of which can lose or keep what it
should not. Versions are rising numbers; a look through a cache fills it from the one behind it, as a reader's does.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from libs.clock.clock import Clock
from libs.purge.client import PurgeFailed
from services.propagation.auditor.addressing import ViewAddresses
from services.propagation.auditor.hashes import possible_hashes
from services.propagation.auditor.ports import (
    NEVER,
    ChangedOutput,
    Output,
    OutputPage,
    ScannedItem,
    ScanPage,
    Seen,
    StoredPage,
    Wanted,
)
from services.propagation.executor.hashing import GONE, output_hash
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import NotFound, PageTokenInvalid, Unavailable

HTML = work_pb2.View(name="html", resource_prefixes=["w/page/"])
HTML.store.namespace = "html"
HTML.purge.urls.append("/wiki/{path}")
HTML.purge.tags.append("html-{name}")
Place = tuple[str, bytes, bytes]


def version(number: int) -> bytes:
    """The 16 bytes of a number."""
    return number.to_bytes(16, "big")


@dataclass
class FakeEngine:
    """What it believes is in `known`; `pending` are re-renders that the executors have yet to do."""

    views_: list[work_pb2.View] = field(default_factory=lambda: [HTML])
    known: dict[tuple[str, str], Output] = field(default_factory=dict)
    pending: list[tuple[str, str]] = field(default_factory=list)
    roots: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    away: bool = False
    stuck: bool = False
    bad_token: str = ""
    listed: int = 0
    told: int = 0
    at: bytes = bytes(16)
    after_listing: Callable[[], None] | None = None
    _listeners: list[asyncio.Queue[ChangedOutput]] = field(default_factory=list)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the engine is away", reason="TEST")

    async def views(self) -> Sequence[work_pb2.View]:
        self._check()
        return list(self.views_)

    async def outputs(self, view: str, token: str, size: int) -> OutputPage:
        self._check()
        if view not in {v.name for v in self.views_}:
            raise NotFound("no such view", reason="VIEW_NOT_FOUND")
        if token and token == self.bad_token:
            self.bad_token = ""
            raise PageTokenInvalid("too old")
        self.listed += 1
        names = sorted(resource for v, resource in self.known if v == view)
        start = int(token or 0)
        chosen = names[start : start + size]
        more = start + size < len(names)
        page = OutputPage(tuple(self.known[view, name] for name in chosen), str(start + size) if more else "")
        if self.after_listing is not None:
            self.after_listing()
        return page

    async def changes(self) -> AsyncGenerator[Sequence[ChangedOutput], None]:
        self._check()
        queue: asyncio.Queue[ChangedOutput] = asyncio.Queue(1_000_000)
        self._listeners.append(queue)
        try:
            while True:
                yield [await queue.get()]
                self.told += 1
                self._check()
        finally:
            self._listeners.remove(queue)

    async def knows(self, view: str, resource: str) -> bool:
        self._check()
        return (view, resource) in self.known

    async def rerender(self, root: str, view: str, names: Sequence[str], reason: str) -> int:
        self._check()
        items = [(view, name) for name in names]
        for item in items:
            before = self.known.get(item, Output(item[1], NEVER, bytes(16)))
            self.known[item] = replace(before, state=1)
        self.pending += items
        self.roots[root] = items
        self.reasons.append(reason)
        return len(items)

    async def newest(self) -> bytes:
        return self.at

    async def finished(self, root: str) -> bool:
        self._check()
        return not self.stuck and not set(self.roots.get(root, [])) & set(self.pending)

    def tell(self, changed: ChangedOutput) -> None:
        """An output changed."""
        for queue in self._listeners:
            queue.put_nowait(changed)


@dataclass
class FakePages:
    """Stored items: (version, body, media type, tags) by namespace, record and key."""

    items: dict[Place, tuple[bytes, bytes, str, tuple[str, ...]]] = field(default_factory=dict)
    away: bool = False
    fetched: int = 0

    async def fetch(
        self, namespace: str, item_key: bytes, wanted: Sequence[Wanted], *, strong: bool = False
    ) -> list[StoredPage | None]:
        if self.away:
            raise Unavailable("storage is away", reason="TEST")
        self.fetched += len(wanted)
        found: list[StoredPage | None] = []
        for one in wanted:
            item = self.items.get((namespace, one.record, item_key))
            hashes = possible_hashes(item[1], item[2], item[3], one.view_tags) if item is not None else ()
            found.append(StoredPage(item[0], hashes) if item is not None else None)
        return found

    async def remove(self, namespace: str, item_key: bytes, record: bytes) -> None:
        self.items.pop((namespace, record, item_key), None)

    async def scan(self, namespace: str, item_keys: Sequence[bytes], token: str) -> AsyncIterator[ScanPage]:
        if self.away:
            raise Unavailable("storage is away", reason="TEST")
        there = sorted((r, k) for n, r, k in self.items if n == namespace and k in item_keys)
        for start in range(int(token or 0), len(there), 10):
            chosen = there[start : start + 10]
            yield ScanPage(tuple(ScannedItem(*one) for one in chosen), str(start + len(chosen)))


class FakeCache:
    """One cache; `behind` gives what it does not have. `deaf`: purges are acknowledged and have no effect."""

    def __init__(self, name: str, behind: Callable[[str], bytes | None]) -> None:
        self.name = name
        self.url = f"http://{name}"
        self.kept: dict[str, bytes] = {}
        self.negative: set[str] = set()
        self.deaf = False
        self.down = False
        self.silent = False
        self.purges: list[str] = []
        self._behind = behind

    def serve(self, page: str) -> bytes | None:
        """The version that a reader gets, None: there is none."""
        if page in self.negative:
            return None
        if page not in self.kept:
            found = self._behind(page)
            if found is None:
                return None
            self.kept[page] = found
        return self.kept[page]

    async def look(self, page: str) -> Seen:
        if self.down:
            return Seen(0)
        found = self.serve(page)
        if found is None:
            return Seen(404)
        return Seen(200, None if self.silent else found)

    async def purge(self, page: str, min_version: bytes) -> None:
        if self.down:
            raise PurgeFailed(self.name, "nobody answers")
        self.purges.append(page)
        self.forget(page)

    def forget(self, page: str) -> None:
        """What a purge does."""
        if not self.deaf:
            self.kept.pop(page, None)
            self.negative.discard(page)


class FakeSite:
    """All of it: `inner` stands before the store, `outer` before `inner`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.engine = FakeEngine()
        self.pages = FakePages()
        self.inner = FakeCache("inner", self._stored)
        self.outer = FakeCache("outer", lambda page: self.inner.serve(page))
        self.caches = [self.inner, self.outer]
        self.sources: dict[str, bytes | None] = {}
        self.last = 0
        self.renders = 0
        self.lost_purges: set[str] = set()
        """Names of caches that the executors' purges do not reach."""

    def edit(self, name: str, body: bytes | None) -> bytes:
        """A page is changed (None: gone), rendered, stored, purged and accepted; its version."""
        self.sources[f"w/page/{name}"] = body
        return self.render(f"w/page/{name}")

    def render(self, resource: str) -> bytes:
        """One accepted render of what the source says."""
        self.renders += 1
        at = self.engine.at = self.lend(resource)
        addresses = ViewAddresses(HTML)
        address = addresses.of(resource)
        body = self.sources.get(resource)
        place = (addresses.namespace, address.wanted.record, addresses.item_key)
        there = self.pages.items.get(place)
        if there is not None and there[0] > at:
            pass  # superseded: the store keeps what is above
        elif body is None:
            self.pages.items.pop(place, None)
        else:
            tags = (*address.wanted.view_tags, "renderers-own")
            self.pages.items[place] = (at, body, "text/html", tags)
        for cache in self.caches:
            if cache.name not in self.lost_purges:
                for url in address.urls:
                    cache.forget(url)
        hash_ = GONE if body is None else output_hash(body, "text/html", ("renderers-own",))
        self.engine.known["html", resource] = Output(resource, hash_, at)
        self.accept(ChangedOutput("html", resource, at, hash_, self.clock.time_ns()))
        return at

    def lend(self, resource: str) -> bytes:
        """The version that a render which begins now has."""
        self.last += 1
        return version(self.last)

    def accept(self, changed: ChangedOutput) -> None:
        """The engine hears of the render."""
        self.engine.tell(changed)

    def work(self) -> None:
        """The executors do all that is pending."""
        todo, self.engine.pending = self.engine.pending, []
        for _, resource in dict.fromkeys(todo):
            self.render(resource)

    def place(self, name: str) -> Place:
        """Where a page lies."""
        return ("html", f"w/page/{name}".encode(), b"")

    def _stored(self, page: str) -> bytes | None:
        item = self.pages.items.get(self.place(page.removeprefix("/wiki/")))
        return item[0] if item is not None else None
