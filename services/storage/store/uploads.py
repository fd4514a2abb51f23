"""Big values: chunks that nobody sees until a manifest names them, and reading them back."""

import secrets
from collections.abc import AsyncIterator, Callable
from typing import Final

import google_crc32c

from services.storage.domain.decide import visible
from services.storage.domain.errors import ChecksumMismatch, ItemNotFound
from services.storage.domain.model import Item
from services.storage.domain.namespace import Namespace
from services.storage.store import layout, rows
from services.storage.store.families import Families
from services.storage.store.kv import Kv
from services.storage.store.manifest import Manifest
from services.storage.store.settling import Settling
from services.storage.store.writer import Writer

UPLOAD_LIFETIME_US: Final = 25 * 3600 * 1_000_000
"""Chunks of an upload that was not finished go after this: longer than the longest deadline that a server allows."""

_CRC_SIZE: Final = 4


class Uploads:
    """Writes and reads chunks. Each lies with its CRC-32C before it."""

    def __init__(
        self, kv: Kv, families: Families, settling: Settling, writer: Writer, clock_us: Callable[[], int]
    ) -> None:
        self._kv = kv
        self._families = families
        self._settling = settling
        self._writer = writer
        self._clock_us = clock_us

    async def begin(self, namespace: Namespace, now_us: int) -> bytes:
        """As ``Store.begin_upload``."""
        upload = secrets.token_bytes(16)
        batch = self._kv.batch()
        due = layout.due_key(now_us + UPLOAD_LIFETIME_US, namespace.number, layout.UNFINISHED, upload)
        batch.put(self._families.due, due, b"")
        await self._kv.submit(batch)
        return upload

    async def put_chunk(self, namespace: Namespace, upload: bytes, index: int, chunk: bytes) -> None:
        """As ``Store.put_chunk``; waits for the disk, which is the only brake on a fast caller."""
        batch = self._kv.batch()
        crc = int(google_crc32c.value(chunk)).to_bytes(_CRC_SIZE, "big")
        batch.put(self._families.chunks, layout.chunk_key(namespace.number, upload, index), crc + chunk)
        await self._kv.submit(batch)

    async def drop(self, namespace: Namespace, upload: bytes) -> None:
        """As ``Store.drop_upload``."""
        batch = self._kv.batch()
        for key in self._families.chunks.scan_keys(layout.chunk_prefix(namespace.number, upload)):
            batch.delete(self._families.chunks, key)
        if len(batch):
            await self._kv.submit(batch)

    async def manifest(self, namespace: Namespace, record: bytes, key: bytes) -> tuple[Item, Manifest | None, bytes]:
        """As ``Store.manifest``."""
        row = self._writer.load(namespace.number, record).item_row(key)
        now_us = self._clock_us()
        await self._settling.settle()
        if row is None or not visible(rows.known(row), now_us):
            raise ItemNotFound("there is no such item")
        item = rows.decode(key, row)
        if item.chunked:
            return item, rows.manifest_of(row), b""
        return item._replace(value=b""), None, item.value

    async def chunks(self, namespace: Namespace, manifest: Manifest, offset: int, limit: int) -> AsyncIterator[bytes]:
        """As ``Store.chunks``."""
        at, end = 0, offset + limit
        for index, size in enumerate(manifest.chunk_sizes):
            if at < end and at + size > offset:
                chunk = self._chunk(namespace, manifest.upload, index, size)
                yield chunk[max(0, offset - at) : min(size, end - at)]
            at += size

    def _chunk(self, namespace: Namespace, upload: bytes, index: int, size: int) -> bytes:
        return checked_chunk(self._families.chunks.get(layout.chunk_key(namespace.number, upload, index)), size)


def checked_chunk(row: bytes | None, size: int) -> bytes:
    """The piece of ``size`` bytes that lies in a row of ``chunks``. Raises ChecksumMismatch."""
    if row is None or len(row) != size + _CRC_SIZE:
        raise ChecksumMismatch(
            "a piece of the value is gone: the value was replaced or deleted long ago, or the disk lost it"
        )
    chunk = row[_CRC_SIZE:]
    if int(google_crc32c.value(chunk)).to_bytes(_CRC_SIZE, "big") != row[:_CRC_SIZE]:
        raise ChecksumMismatch("a stored piece of the value does not match its checksum; restore a backup")
    return chunk
