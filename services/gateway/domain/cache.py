"""The gateway's own page cache: bounded by bytes, purged by path and by tag, never filled with what a purge overtook.

Three rules keep a reader from seeing an older version after a newer one:

* a purge that names a minimum version is remembered for a while: nothing older is served or kept from then on; when
  there are more of them than may be remembered, or the process has just started, every read asks storage strongly until
  the time of those forgotten is over;
* a fetch that was under way when its path was purged may be answered to the readers that wait for it only when it is
  new enough, and is not kept;
* an entry is replaced only by one of the same or a higher version.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

# What an entry costs beside its body and tags: keys, the record itself, index cells (measured, rounded up).
ENTRY_OVERHEAD_BYTES = 600
MINIMUM_OVERHEAD_BYTES = 200


@dataclass(frozen=True, slots=True)
class Page:
    """A stored page as readers get it.

    `version` is 16 bytes, ordered bytewise; `etag` has no quotes; `tags` are surrogate keys.
    """

    body: bytes
    content_type: str
    etag: str
    version: bytes
    tags: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return len(self.body) + sum(map(len, self.tags)) + ENTRY_OVERHEAD_BYTES


@dataclass(slots=True)
class Entry:
    """A page kept until `expires_s` (monotonic seconds)."""

    page: Page
    expires_s: float


@dataclass(frozen=True, slots=True)
class Minimum:
    """The lowest version that may be served, remembered until `expires_s` (monotonic seconds)."""

    version: bytes
    expires_s: float


@dataclass(slots=True, eq=False)
class Fetch:
    """A read of the origin that is under way, and what purges that came in between leave of it: what is older than
    `kept_from` is not kept; nothing is, once one of them named no version (`overtaken`)."""

    path: str
    overtaken: bool = False
    kept_from: bytes = b""

    def overtake(self, min_version: bytes) -> None:
        """A purge came in between."""
        if min_version:
            self.kept_from = max(self.kept_from, min_version)
        else:
            self.overtaken = True


@dataclass(slots=True)
class Statistics:
    """Counts since the start."""

    hits: int = 0
    misses: int = 0
    purged: int = 0
    evicted: int = 0
    refused: int = 0


@dataclass(slots=True)
class PageCache:
    """Pages by path, least recently used out first.

    `capacity_bytes` bounds pages and their index; minimum versions are remembered for `minimum_kept_s`, at most
    `max_minimums` of them. `forgot_until_s`: until then (monotonic seconds) some that still matter may be forgotten; a
    process that has just started knows none of those that were told to the one before it.
    """

    capacity_bytes: int
    lifetime_s: float
    max_minimums: int = 1_000_000
    minimum_kept_s: float = 3600.0
    max_page_bytes: int = 8 << 20
    forgot_until_s: float = 0.0
    statistics: Statistics = field(default_factory=Statistics)
    size_bytes: int = 0
    _entries: OrderedDict[str, Entry] = field(default_factory=OrderedDict)
    _by_tag: dict[str, set[str]] = field(default_factory=dict)
    _minimums: OrderedDict[str, Minimum] = field(default_factory=OrderedDict)
    _fetches: dict[str, set[Fetch]] = field(default_factory=dict)

    def get(self, path: str, now_s: float) -> Page | None:
        """The page kept under `path`, or None."""
        entry = self._entries.get(path)
        if entry is None:
            self.statistics.misses += 1
            return None
        if entry.expires_s <= now_s:
            self._drop(path)
            self.statistics.misses += 1
            return None
        self._entries.move_to_end(path)
        self.statistics.hits += 1
        return entry.page

    def begin_fetch(self, path: str) -> Fetch:
        """Call before the origin is read; give the answer to `end_fetch`, whatever became of the read."""
        fetch = Fetch(path)
        self._fetches.setdefault(path, set()).add(fetch)
        return fetch

    def end_fetch(self, fetch: Fetch, page: Page | None, now_s: float) -> bool:
        """Keeps what was fetched if no purge overtook it; answers whether readers may be given it."""
        waiting = self._fetches[fetch.path]
        waiting.discard(fetch)
        if not waiting:
            del self._fetches[fetch.path]
        if page is None:
            return True
        if page.version < self.minimum(fetch.path):
            self.statistics.refused += 1
            return False
        fresh = not fetch.overtaken and page.version >= fetch.kept_from
        if fresh and page.size_bytes <= self.max_page_bytes:
            self._put(fetch.path, page, now_s)
        return True

    def minimum(self, path: str) -> bytes:
        """The lowest version that may be served under `path`; empty: any."""
        known = self._minimums.get(path)
        return known.version if known is not None else b""

    def must_ask_strongly(self, now_s: float) -> bool:
        """Whether a minimum version that may still matter had to be forgotten for room."""
        return now_s < self.forgot_until_s

    def purge(self, path: str, min_version: bytes = b"", now_s: float = 0.0) -> int:
        """Forgets the page under `path`; answers how many pages went (0 or 1).

        With a minimum version a page that is at least so new stays, and nothing older is served from now on.
        """
        if min_version:
            self._raise_minimum(path, min_version, now_s)
        for fetch in self._fetches.get(path, ()):
            fetch.overtake(min_version)
        entry = self._entries.get(path)
        if entry is None or (min_version and entry.page.version >= min_version):
            return 0
        self._drop(path)
        self.statistics.purged += 1
        return 1

    def purge_tags(self, tags: Iterable[str], min_version: bytes = b"") -> int:
        """Forgets every page that carries one of the tags, and is older than the minimum version; answers how many."""
        found = {path for tag in tags for path in self._by_tag.get(tag, ())}
        paths = [path for path in found if not min_version or self._entries[path].page.version < min_version]
        for path in paths:
            self._drop(path)
        # The tags of what is being fetched are not known yet, so any of it may carry one.
        for waiting in self._fetches.values():
            for fetch in waiting:
                fetch.overtake(min_version)
        self.statistics.purged += len(paths)
        return len(paths)

    def __len__(self) -> int:
        return len(self._entries)

    def _put(self, path: str, page: Page, now_s: float) -> None:
        present = self._entries.get(path)
        if present is not None:
            if present.page.version > page.version:
                return
            self._drop(path)
        self._entries[path] = Entry(page, now_s + self.lifetime_s)
        self.size_bytes += page.size_bytes + len(path)
        for tag in page.tags:
            self._by_tag.setdefault(tag, set()).add(path)
        while self.size_bytes > self.capacity_bytes and self._entries:
            self._drop(next(iter(self._entries)))
            self.statistics.evicted += 1

    def _drop(self, path: str) -> None:
        page = self._entries.pop(path).page
        self.size_bytes -= page.size_bytes + len(path)
        for tag in page.tags:
            paths = self._by_tag.get(tag)
            if paths is not None:
                paths.discard(path)
                if not paths:
                    del self._by_tag[tag]

    def _raise_minimum(self, path: str, min_version: bytes, now_s: float) -> None:
        version = max(min_version, self.minimum(path))
        self._minimums[path] = Minimum(version, now_s + self.minimum_kept_s)
        self._minimums.move_to_end(path)
        while self._minimums:
            oldest, known = next(iter(self._minimums.items()))
            if known.expires_s > now_s:
                if len(self._minimums) <= self.max_minimums:
                    break
                self.forgot_until_s = max(self.forgot_until_s, known.expires_s)
            del self._minimums[oldest]
