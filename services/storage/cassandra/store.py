"""The backend on Cassandra: the engine of the one-machine backend, run step by step over a cluster."""

import asyncio
import dataclasses
import functools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from libs.cassandra import migrations
from libs.cassandra.limits import BatchLimits, batch_limits
from libs.cassandra.options import Options
from libs.cassandra.session import EACH_QUORUM, LOCAL_QUORUM, Session
from libs.errors.errors import WellspringError
from services.storage.cassandra.accounts import Accounts
from services.storage.cassandra.catalog import Catalog
from services.storage.cassandra.commit import Committer
from services.storage.cassandra.copying import Copying
from services.storage.cassandra.cursor import SIZE, Cursor, base_of, digest, number_of
from services.storage.cassandra.dues import Dues
from services.storage.cassandra.feed import Feed
from services.storage.cassandra.loader import Loader
from services.storage.cassandra.lww.far import Datacentres
from services.storage.cassandra.lww.far import Place as Address
from services.storage.cassandra.lww.resolving import Resolver
from services.storage.cassandra.lww.spreading import BucketSize
from services.storage.cassandra.lww.steps import LwwSteps, Tools
from services.storage.cassandra.lww.together import LwwTogether
from services.storage.cassandra.mending import Mending
from services.storage.cassandra.mending_cells import MendingCells
from services.storage.cassandra.mutations import Mutations
from services.storage.cassandra.partition import Loaded, Rows
from services.storage.cassandra.scope import read_level
from services.storage.cassandra.statements import Statements
from services.storage.cassandra.steps import Steps
from services.storage.cassandra.sweeper import Sweeper
from services.storage.cassandra.wanted import token_row, wanted_by
from services.storage.domain.copying import Copied
from services.storage.domain.errors import ChecksumMismatch
from services.storage.domain.model import Command, Item, Receipt, Selection, WriteToken
from services.storage.domain.namespace import Namespace, Settings
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
from services.storage.store.local import LocalOptions, LocalStore
from services.storage.store.manifest import Manifest
from services.storage.store.tasks import Tasks

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_TOGETHER: Final = 32
"""Records of one call that are written or read at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Timing:
    """``patience_s``: how long a change that its writer has not settled may hold up the feed."""

    patience_s: float = 10.0


class CassandraStore:
    """A ``Store`` over a ``Session``. Use :meth:`open`."""

    def __init__(
        self,
        session: Session,
        statements: Statements,
        clock_us: Callable[[], int],
        options: LocalOptions,
        timing: Timing,
        limits: BatchLimits,
        bucket_size: BucketSize,
    ) -> None:
        self.options = options
        self._session = session
        self._statements = statements
        self._clock_us = clock_us
        self._tasks = Tasks()
        self._catalog = Catalog(session, statements)
        self._accounts = Accounts(session, statements, time.monotonic)
        self._datacentres = Datacentres(Address(session, statements), self._tasks, time.monotonic)
        replicas = MendingCells(self._datacentres)
        loader = Loader(session, statements, replicas)
        self._dues = Dues(session, statements, clock_us)
        # A token may be ahead of the clock by half of the window.
        token_ttl_s = options.token_window_us * 3 // 2 // 1_000_000 + 60
        committer = Committer(session, statements, loader, self._dues, token_ttl_s)
        self._committer = committer
        tools = Tools(
            session,
            statements,
            replicas,
            committer,
            self._dues,
            self._tasks,
            clock_us,
            time.monotonic,
            timing.patience_s,
            token_ttl_s,
            options.grace_us,
            limits,
            bucket_size,
        )
        lww = self._lww = LwwSteps(tools)
        together = LwwTogether(tools, lww)
        resolver = Resolver(self._datacentres, lww, self._accounts, clock_us, time.monotonic, timing.patience_s)
        self._steps = Steps(
            session, statements, loader, committer, self._accounts, self._tasks, clock_us, options, lww, together
        )
        self._mutations = Mutations(self._catalog, self._steps)
        self._feed = Feed(
            session,
            statements,
            loader,
            self._steps,
            self._accounts,
            time.monotonic,
            timing.patience_s,
            self._datacentres,
            resolver,
        )
        self._mending = Mending(self._datacentres)
        self._copying = Copying(loader, self._steps)
        self._sweeper = Sweeper(
            session, statements, self._dues, self._steps, self._catalog, self._accounts, resolver, lww.spreading
        )

    @classmethod
    async def open(
        cls,
        options: Options,
        clock_us: Callable[[], int],
        local: LocalOptions | None = None,
        timing: Timing | None = None,
        bucket_size: BucketSize | None = None,
    ) -> "CassandraStore":
        """Connects. Raises Unavailable, and FailedPrecondition when the keyspace has not had just the migrations of
        this release."""
        session = await Session.open(options)
        try:
            await migrations.check(session, migrations.read(MIGRATIONS))
            statements = await Statements.prepare(session)
            limits = await batch_limits(session)
            given = (local or LocalOptions(), timing or Timing(), limits, bucket_size or BucketSize())
            store = cls(session, statements, clock_us, *given)
            await store._tasks.start()
        except BaseException:
            await session.close()
            raise
        return store

    @property
    def datacentres(self) -> tuple[str, ...]:
        """The data centres of the cluster."""
        return tuple(sorted(self._session.datacentres()))

    # Namespaces

    async def namespaces(self) -> list[Namespace]:
        return await self._catalog.all()

    async def create_namespace(self, settings: Settings, now_us: int, *, restoring: bool = False) -> Namespace:
        return await self._catalog.create(settings, now_us, restoring=restoring)

    async def replace_namespace(self, namespace: Namespace) -> None:
        await self._catalog.replace(namespace)

    async def purge_namespace(self, namespace: Namespace) -> None:
        await self._sweeper.purge(namespace)

    # Records

    async def mutate(self, writes: Sequence[Write]) -> list[Receipt | WellspringError]:
        return await self._mutations.run(writes)

    async def read(self, read: Read) -> Page:
        return await self._steps.read(read, self._level(read))

    def _level(self, read: Read) -> int:
        return read_level(read.namespace, self._session.options.local_datacentre, read.consistency, read.seen)

    async def read_many(self, reads: Sequence[Read], max_bytes: int) -> list[Page | WellspringError]:
        pages: list[Page | WellspringError] = []
        left = max_bytes
        for first in range(0, len(reads), _TOGETHER):
            some = reads[first : first + _TOGETHER]
            # What was read for a weaker consistency is no answer to a stronger one.
            loaded = {self._level(read): Loaded() for read in some}
            failed: list[WellspringError | None] = [None] * len(some)
            if left > 0:
                failed = await asyncio.gather(*(self._preload(read, loaded[self._level(read)]) for read in some))
            for read, error in zip(some, failed, strict=True):
                if error is not None:
                    pages.append(error)
                    continue
                level = self._level(read)
                work = functools.partial(_read_one, read=read, left=left)
                (page,) = await self._steps.inspect(read.namespace, work, loaded[level], level)
                pages.append(page)
                if isinstance(page, Page):
                    left -= page.size
        return pages

    async def _preload(self, read: Read, loaded: Loaded) -> WellspringError | None:
        """Loads what a read of many will ask for; answers why that cannot be."""
        try:
            await self._steps.inspect(
                read.namespace, lambda store: store.read(read), loaded, self._level(read), first=wanted_by(read)
            )
        except WellspringError as error:
            return error
        return None

    async def scan(self, scan: Scan) -> ScanPage:
        loaded = Loaded(most_heads=scan.max_records + 1)
        return await self._steps.inspect(scan.namespace, lambda store: store.scan(scan), loaded)

    async def split(self, namespace: Namespace, parts: int) -> list[bytes]:
        await self._accounts.standing(namespace.number, fresh=True)
        return await self._steps.inspect(namespace, lambda store: store.split(namespace, parts))

    async def outcome(self, namespace: Namespace, record: bytes, token: WriteToken) -> Remembered | None:
        # A replica that lags would not know of it, nor would one in another data centre than the namespace's home.
        level = self._steps.scope(namespace).serial
        return await self._steps.inspect(namespace, lambda store: store.outcome(namespace, record, token), level=level)

    async def usage(self, namespace: Namespace) -> Usage:
        await self._accounts.standing(namespace.number, fresh=True)
        found = await self._steps.inspect(namespace, lambda store: store.usage(namespace))
        return found._replace(exact=False)

    # The feed

    async def feed_start(self, namespace: Namespace, *, from_beginning: bool) -> bytes:
        return await self._feed.start(namespace, from_beginning=from_beginning)

    async def feed(self, namespace: Namespace, cursor: bytes, max_events: int) -> FeedPage:
        return await self._feed.page(namespace, cursor, max_events)

    async def feed_grown(self, namespace: Namespace, cursor: bytes, timeout_s: float) -> bool:
        return await self._feed.grown(namespace, cursor, timeout_s)

    def feed_reaches(self, namespace: Namespace, cursor: bytes) -> bool:
        """A read asks as many replicas as it takes to see the write (``scope.read_level``); a time that has not come
        yet is no write's."""
        if len(cursor) != SIZE or number_of(cursor) != namespace.number:
            return False
        standing = self._accounts.known(namespace.number)
        return base_of(cursor) <= max(self._clock_us(), standing.sequence if standing is not None else 0)

    def feed_cursor(self, namespace: Namespace, receipt: Receipt) -> bytes:
        datacentre = digest(self._session.options.local_datacentre)
        return Cursor(namespace.number, datacentre, receipt.sequence, {}).encode()

    # The past

    async def versions(
        self, namespace: Namespace, record: bytes, key: bytes, after: bytes | None, limit: int, *, omit_values: bool
    ) -> tuple[list[KeptVersion], bytes | None]:
        return await self._steps.inspect(
            namespace, lambda store: store.versions(namespace, record, key, after, limit, omit_values=omit_values)
        )

    async def undelete(self, namespace: Namespace, command: Command, selection: Selection, version: bytes) -> Receipt:
        await self._mutations.check_known(namespace)
        place = (namespace.number, command.record)
        wanted = Rows(place, (token_row(command),))
        return await self._steps.change(
            namespace, place, wanted, lambda store: store.undelete(namespace, command, selection, version)
        )

    # Big values

    async def begin_upload(self, namespace: Namespace, now_us: int) -> bytes:
        upload = await self._steps.clean([namespace], lambda store: store.begin_upload(namespace, now_us), ())
        plain = self._steps.scope(namespace).plain
        await self._session.execute(self._statements.write["upload"], (namespace.number, upload), plain)
        return upload

    async def put_chunk(self, namespace: Namespace, upload: bytes, index: int, chunk: bytes) -> None:
        await self._steps.clean([namespace], lambda store: store.put_chunk(namespace, upload, index, chunk), ())

    async def drop_upload(self, namespace: Namespace, upload: bytes) -> None:
        await self._steps.clean([namespace], lambda store: store.drop_upload(namespace, upload), ())

    async def manifest(self, namespace: Namespace, record: bytes, key: bytes) -> tuple[Item, Manifest | None, bytes]:
        return await self._steps.inspect(namespace, lambda store: store.manifest(namespace, record, key))

    async def chunks(self, namespace: Namespace, manifest: Manifest, offset: int, limit: int) -> AsyncIterator[bytes]:
        at, end = 0, offset + limit
        for index, size in enumerate(manifest.chunk_sizes):
            first, last = max(offset, at), min(end, at + size)
            if first < last:
                piece = functools.partial(_piece, namespace=namespace, manifest=manifest, first=first, last=last)
                try:
                    found = await self._steps.inspect(namespace, piece)
                except ChecksumMismatch:
                    whole = await self._mending.mend(namespace.number, manifest.upload, index, size)
                    if whole is None:
                        raise
                    found = whole[first - at : last - at]
                yield found
            at += size

    # The whole

    async def copy(self, namespace: Namespace, records: Sequence[bytes] | None = None) -> AsyncIterator[Copied | bytes]:
        """As ``Store.copy``, but for its moment: each record is read for itself, while others are written."""
        now_us = self._clock_us()
        async for record in self._copying.records(namespace) if records is None else _each(records):
            async for item, manifest in self._copying.items(namespace, record, now_us):
                yield item
                if manifest is not None:
                    async for chunk in self.chunks(namespace, manifest, 0, manifest.size):
                        yield chunk

    async def load(self, namespace: Namespace, items: Sequence[Copied], *, free: bool) -> list[bool]:
        await self._mutations.check_known(namespace)
        return await self._copying.load(namespace, items, free=free)

    async def profile(self, namespace: Namespace, start: bytes, limit: int) -> list[RecordProfile]:
        loaded = Loaded(most_heads=limit + 1)
        return await self._steps.inspect(
            namespace, lambda store: store.profile(namespace, start, limit), loaded, whole=True
        )

    async def rebucket(self, namespace: Namespace, record: bytes) -> tuple[int, int] | None:
        """As ``Store.rebucket``: a record of a CAS namespace is one partition, however wide."""
        if namespace.stamped:
            return await self._lww.spread((namespace.number, record))
        return await self._steps.inspect(namespace, lambda store: store.rebucket(namespace, record))

    # Documents: written everywhere and read here, as the catalog is, so that a server starts while others are away.
    # Those that are written near come to the others later

    async def document(self, kind: str, name: str) -> bytes | None:
        rows = await self._session.execute(self._statements.read["document"], (kind, name), LOCAL_QUORUM)
        return rows[0][0] if rows else None

    async def documents(self, kind: str) -> list[tuple[str, bytes]]:
        pages = self._session.pages(self._statements.read["documents"], (kind,), LOCAL_QUORUM)
        return [(name, body) async for page in pages for name, body in page]

    async def put_document(self, kind: str, name: str, body: bytes | None, *, near: bool = False) -> None:
        write, consistency = self._statements.write, LOCAL_QUORUM if near else EACH_QUORUM
        if body is None:
            await self._session.execute(write["drop_document"], (kind, name), consistency)
        else:
            await self._session.execute(write["put_document"], (kind, name, body), consistency)

    # Care

    async def signing_key(self) -> bytes:
        return await self._catalog.signing_key()

    async def sweep(self, now_us: int, budget: int) -> bool:
        return await self._sweeper.sweep(now_us, budget)

    async def check(self) -> None:
        await self._session.execute(self._statements.read["shared"], ("check",), LOCAL_QUORUM)

    async def close(self) -> None:
        await self._tasks.close()
        try:
            await self._accounts.flush()
        finally:
            await self._datacentres.close()
            await self._session.close()


async def _read_one(store: LocalStore, read: Read, left: int) -> list[Page | WellspringError]:
    return await store.read_many((read,), left)


async def _piece(store: LocalStore, namespace: Namespace, manifest: Manifest, first: int, last: int) -> bytes:
    return b"".join([piece async for piece in store.chunks(namespace, manifest, first, last - first)])


async def _profile(store: LocalStore, namespace: Namespace, start: bytes, limit: int) -> list[RecordProfile]:
    return await store.profile(namespace, start, limit)


async def _each(records: Iterable[bytes]) -> AsyncIterator[bytes]:
    for record in dict.fromkeys(records):
        yield record
