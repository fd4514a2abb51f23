"""The one-machine backend: the parts that read, write and sweep one ordered key-value store, put together."""

import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from libs.errors.errors import WellspringError
from services.storage.domain.copying import Copied
from services.storage.domain.model import Command, Item, Receipt, Selection, WriteToken
from services.storage.domain.namespace import Namespace, Settings
from services.storage.store.catalog import Catalog
from services.storage.store.copying import Copier
from services.storage.store.documents import Documents
from services.storage.store.families import Families
from services.storage.store.feedreader import FeedReader
from services.storage.store.gathering import Gathering
from services.storage.store.history import History
from services.storage.store.interface import (
    FeedPage,
    KeptVersion,
    Page,
    Read,
    RecordProfile,
    Remembered,
    Scan,
    ScanPage,
    Usage,
    Write,
)
from services.storage.store.kv import Kv
from services.storage.store.ledger import Ledger
from services.storage.store.loading import Loader
from services.storage.store.manifest import Manifest
from services.storage.store.past import PastReader
from services.storage.store.profiling import Profiler
from services.storage.store.reader import Reader
from services.storage.store.settling import Settling
from services.storage.store.sweeper import Sweeper
from services.storage.store.uploads import Uploads
from services.storage.store.writer import Writer

_HOUR_US: Final = 3600 * 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class LocalOptions:
    """``token_window_us``: how long mutations are remembered for their retries. ``grace_us``: how long deletes of LWW
    namespaces hold off late writes."""

    token_window_us: int = 24 * _HOUR_US
    grace_us: int = 24 * _HOUR_US

    @property
    def max_drift_us(self) -> int:
        """The largest drift that a namespace may allow: a token may be ahead of the clock when it comes and behind it
        when it is forgotten, and a write may come as late after a delete; then both must be refused for their age."""
        return min(self.token_window_us, self.grace_us) // 2


class LocalStore:
    """A ``Store`` over a ``Kv``. All its methods belong to the thread of the event loop."""

    def __init__(
        self, kv: Kv, clock_us: Callable[[], int], options: LocalOptions | None = None, *, gather: bool = False
    ) -> None:
        """``clock_us`` tells the time in microseconds since 1970. ``gather``: single mutations share turns; ``kv`` must
        give futures for that."""
        self.options = options or LocalOptions()
        self._kv = kv
        self._clock_us = clock_us
        self._gather = gather
        self._families = Families(kv)
        self._settling = Settling(kv)

    # Its parts, each made when it is first asked for: where an engine is made for each step, most steps need few

    @functools.cached_property
    def _history(self) -> History:
        return History(self._families)

    @functools.cached_property
    def _ledger(self) -> Ledger:
        return Ledger(self._families)

    @functools.cached_property
    def _catalog(self) -> Catalog:
        return Catalog(self._kv, self._families, self._ledger)

    @functools.cached_property
    def _writer(self) -> Writer:
        parts = (self._kv, self._families, self._history, self._ledger, self._catalog, self._settling)
        return Writer(*parts, self._clock_us, self.options.grace_us)

    @functools.cached_property
    def _gathering(self) -> Gathering | None:
        return Gathering(self._writer) if self._gather else None

    @functools.cached_property
    def _reader(self) -> Reader:
        return Reader(self._families, self._ledger, self._settling, self._clock_us)

    @functools.cached_property
    def _feed(self) -> FeedReader:
        return FeedReader(self._families, self._ledger, self._settling)

    @functools.cached_property
    def _past(self) -> PastReader:
        return PastReader(self._families, self._history, self._ledger, self._settling, self._writer, self._clock_us)

    @functools.cached_property
    def _uploads(self) -> Uploads:
        return Uploads(self._kv, self._families, self._settling, self._writer, self._clock_us)

    @functools.cached_property
    def _copier(self) -> Copier:
        return Copier(self._kv, self._families, self._clock_us)

    @functools.cached_property
    def _loader(self) -> Loader:
        parts = (self._kv, self._families, self._ledger, self._catalog, self._settling, self._writer)
        return Loader(*parts, self._clock_us, self.options.grace_us)

    @functools.cached_property
    def _profiler(self) -> Profiler:
        return Profiler(self._families)

    @functools.cached_property
    def _documents(self) -> Documents:
        return Documents(self._kv, self._families)

    @functools.cached_property
    def _sweeper(self) -> Sweeper:
        parts = (self._kv, self._families, self._history, self._ledger, self._catalog, self._settling, self._writer)
        return Sweeper(*parts, grace_us=self.options.grace_us, token_window_us=self.options.token_window_us)

    # Namespaces

    async def namespaces(self) -> list[Namespace]:
        return self._catalog.all()

    async def create_namespace(self, settings: Settings, now_us: int, *, restoring: bool = False) -> Namespace:
        return await self._catalog.create(settings, now_us, restoring=restoring)

    async def replace_namespace(self, namespace: Namespace) -> None:
        await self._catalog.replace(namespace)

    async def purge_namespace(self, namespace: Namespace) -> None:
        await self._catalog.purge(namespace)

    # Records

    async def mutate(self, writes: Sequence[Write]) -> list[Receipt | WellspringError]:
        if self._gathering is not None and len(writes) == 1:
            return [await self._gathering.mutate(writes[0])]
        return await self._writer.mutate(writes)

    async def read(self, read: Read) -> Page:
        return await self._reader.read(read)

    async def read_many(self, reads: Sequence[Read], max_bytes: int) -> list[Page | WellspringError]:
        return await self._reader.read_many(reads, max_bytes)

    async def scan(self, scan: Scan) -> ScanPage:
        return await self._reader.scan(scan)

    async def split(self, namespace: Namespace, parts: int) -> list[bytes]:
        return await self._reader.split(namespace, parts)

    async def outcome(self, namespace: Namespace, record: bytes, token: WriteToken) -> Remembered | None:
        return await self._past.outcome(namespace, record, token)

    async def usage(self, namespace: Namespace) -> Usage:
        account = self._ledger.account(namespace.number)
        return Usage(account.records, account.items, account.size, True, self._clock_us())

    # The feed

    async def feed_start(self, namespace: Namespace, *, from_beginning: bool) -> bytes:
        return await self._feed.start(namespace, from_beginning=from_beginning)

    async def feed(self, namespace: Namespace, cursor: bytes, max_events: int) -> FeedPage:
        return await self._feed.read(namespace, cursor, max_events)

    async def feed_grown(self, namespace: Namespace, cursor: bytes, timeout_s: float) -> bool:
        return await self._feed.grown(namespace, cursor, timeout_s)

    def feed_reaches(self, namespace: Namespace, cursor: bytes) -> bool:
        return self._feed.reaches(namespace, cursor)

    def feed_cursor(self, namespace: Namespace, receipt: Receipt) -> bytes:
        return self._feed.cursor(namespace, receipt)

    # The past

    async def versions(
        self, namespace: Namespace, record: bytes, key: bytes, after: bytes | None, limit: int, *, omit_values: bool
    ) -> tuple[list[KeptVersion], bytes | None]:
        return await self._past.versions(namespace, record, key, after, limit, omit_values=omit_values)

    async def undelete(self, namespace: Namespace, command: Command, selection: Selection, version: bytes) -> Receipt:
        return await self._past.undelete(namespace, command, selection, version)

    # Big values

    async def begin_upload(self, namespace: Namespace, now_us: int) -> bytes:
        return await self._uploads.begin(namespace, now_us)

    async def put_chunk(self, namespace: Namespace, upload: bytes, index: int, chunk: bytes) -> None:
        await self._uploads.put_chunk(namespace, upload, index, chunk)

    async def drop_upload(self, namespace: Namespace, upload: bytes) -> None:
        await self._uploads.drop(namespace, upload)

    async def manifest(self, namespace: Namespace, record: bytes, key: bytes) -> tuple[Item, Manifest | None, bytes]:
        return await self._uploads.manifest(namespace, record, key)

    def chunks(self, namespace: Namespace, manifest: Manifest, offset: int, limit: int) -> AsyncIterator[bytes]:
        return self._uploads.chunks(namespace, manifest, offset, limit)

    # The whole

    def copy(self, namespace: Namespace, records: Sequence[bytes] | None = None) -> AsyncIterator[Copied | bytes]:
        return self._copier.copy(namespace, records)

    async def load(self, namespace: Namespace, items: Sequence[Copied], *, free: bool) -> list[bool]:
        return await self._loader.load(namespace, items, free=free)

    async def profile(self, namespace: Namespace, start: bytes, limit: int) -> list[RecordProfile]:
        return await self._profiler.profile(namespace, start, limit)

    async def rebucket(self, namespace: Namespace, record: bytes) -> tuple[int, int] | None:
        return self._profiler.buckets(namespace, record)

    # Documents

    async def document(self, kind: str, name: str) -> bytes | None:
        return self._documents.get(kind, name)

    async def documents(self, kind: str) -> list[tuple[str, bytes]]:
        return self._documents.all(kind)

    async def put_document(self, kind: str, name: str, body: bytes | None, *, near: bool = False) -> None:
        await self._documents.put(kind, name, body)

    # Care

    async def signing_key(self) -> bytes:
        return await self._catalog.signing_key()

    async def sweep(self, now_us: int, budget: int) -> bool:
        return await self._sweeper.sweep(now_us, budget)

    async def check(self) -> None:
        if self._kv.failure is not None:
            raise self._kv.failure

    async def close(self) -> None:
        self._kv.close()
