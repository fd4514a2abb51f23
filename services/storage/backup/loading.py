"""A stream written into a namespace: small items many at a time, big values piece by piece before the item that names
them. What is there already is left as it is, so a stream may be loaded twice."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from services.storage.backup.contents import Contents
from services.storage.backup.folder import pieces
from services.storage.backup.format import End, Header
from services.storage.domain.copying import Copied
from services.storage.domain.errors import ItemNotFound
from services.storage.domain.namespace import Namespace
from services.storage.store import manifest as manifests
from services.storage.store.interface import Store
from services.storage.store.manifest import Manifest

Pace = Callable[[int, int], Awaitable[None]]
"""Is awaited before writes, with their number and with the items written so far: may slow them, or raise to stop."""

_MANY: Final = 256
_MUCH: Final = 512 * 1024
"""Items and bytes of one batch: a millisecond or two of the loop."""


class _Filling:
    """The namespace being filled."""

    def __init__(self, store: Store, namespace: Namespace, pace: Pace, clock_us: Callable[[], int], free: bool) -> None:
        self._store = store
        self._namespace = namespace
        self._pace = pace
        self._clock_us = clock_us
        self._free = free
        self._batch: list[Copied] = []
        self._size = 0
        self._done = 0

    async def add(self, item: Copied) -> None:
        """An item with its value."""
        self._batch.append(item)
        self._size += item.size
        if len(self._batch) >= _MANY or self._size >= _MUCH:
            await self.flush()

    async def flush(self) -> None:
        """Writes what waits."""
        if self._batch:
            batch, self._batch, self._size = self._batch, [], 0
            await self._write(batch)

    async def big(self, item: Copied, parts: AsyncIterator[bytes]) -> None:
        """A chunked item; ``parts`` are its bytes. Uses ``parts`` up. An upload that is not taken is dropped."""
        await self.flush()
        if await self._there(item):
            async for _ in parts:
                pass
            return
        store, namespace = self._store, self._namespace
        sizes: list[int] = []
        upload = await store.begin_upload(namespace, self._clock_us())
        taken = False
        try:
            async for part in parts:
                await self._pace(0, self._done)
                await store.put_chunk(namespace, upload, len(sizes), part)
                sizes.append(len(part))
            value = manifests.encode(Manifest(upload, item.size, item.crc32c, tuple(sizes)))
            (taken,) = await self._write([item._replace(put=item.put._replace(value=value))])
        finally:
            if not taken:
                await store.drop_upload(namespace, upload)

    async def _there(self, item: Copied) -> bool:
        try:
            found, _, _ = await self._store.manifest(self._namespace, item.record, item.put.key)
        except ItemNotFound:
            return False
        return found.version == item.version

    async def _write(self, items: list[Copied]) -> list[bool]:
        await self._pace(len(items), self._done)
        written = await self._store.load(self._namespace, items, free=self._free)
        self._done += len(items)
        return written


async def load_file(
    store: Store, namespace: Namespace, path: Path, *, clock_us: Callable[[], int], pace: Pace, free: bool
) -> End:
    """Writes the stream in a file into ``namespace``. Raises what reading and ``Store.load`` raise: some of the records
    have been written then, each whole, and the same again writes the rest."""
    contents = Contents(clock_us())

    async def parts() -> AsyncIterator[Copied | bytes]:
        async for piece in pieces(path):
            for part in contents.feed(piece):
                if isinstance(part, Copied | bytes):
                    yield part

    await load_parts(store, namespace, parts(), clock_us=clock_us, pace=pace, free=free)
    return contents.finish()


async def load_parts(
    store: Store,
    namespace: Namespace,
    parts: AsyncIterator[Copied | bytes],
    *,
    clock_us: Callable[[], int],
    pace: Pace,
    free: bool,
) -> None:
    """As ``load_file``, from items with the bytes of each big one behind it."""
    filling = _Filling(store, namespace, pace, clock_us, free)
    async for part in parts:
        assert isinstance(part, Copied)  # the bytes of a big value are read with it
        if part.put.chunked:
            await filling.big(part, _bytes_of(parts, part.size))
        else:
            await filling.add(part)
    await filling.flush()


async def _bytes_of(parts: AsyncIterator[Copied | bytes], size: int) -> AsyncIterator[bytes]:
    """The ``size`` bytes behind a chunked item."""
    while size:
        part = await anext(parts)
        assert isinstance(part, bytes)  # else what reads them would have refused it
        size -= len(part)
        yield part


async def verify_file(path: Path, *, now_us: int, bound: bool = False, pace: Pace) -> tuple[Header, End]:
    """Reads a whole file without writing anything; what it says first and last. Raises ChecksumMismatch,
    ExportInvalid."""
    contents = Contents(now_us, bound=bound)
    header: Header | None = None
    async for piece in pieces(path):
        for part in contents.feed(piece):
            if isinstance(part, Header):
                header = part
        await pace(0, 0)
    end = contents.finish()
    assert header is not None  # the contents begin with it
    return header, end
