"""Snapshots in a namespace of the storage service: the entries of a shard are the items of one record, each part is a
big value in a record of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import google_crc32c

from services.propagation.sharded.snapshots.shelf import ShelfAway, ShelfRefused
from wellspring_client import errors
from wellspring_client.storage import Namespace

_PART_S = 120.0
"""For a part to come or go."""


class StorageShelf:
    """See `Shelf`. `record` names the shard within the namespace."""

    def __init__(self, namespace: Namespace, record: str) -> None:
        self._namespace = namespace
        self._record = record
        self.place = f"the namespace {namespace.name}, record {record}"

    async def entries(self) -> dict[str, bytes]:
        """See `Shelf.entries`."""
        with _told(self.place):
            return {item.key.decode(): item.value async for item in self._namespace.items(self._record)}

    async def put_entry(self, name: str, content: bytes) -> None:
        """See `Shelf.put_entry`."""
        with _told(self.place):
            await self._namespace.put(self._record, content, key=name)

    async def remove_entry(self, name: str) -> None:
        """See `Shelf.remove_entry`."""
        with _told(self.place):
            await self._namespace.delete(self._record, keys=[name], allow_missing=True)

    async def put_part(self, name: str, at: int, content: bytes) -> None:
        """See `Shelf.put_part`."""
        checksum = google_crc32c.value(content)
        with _told(self.place):
            await self._namespace.upload(
                self._part(name, at), [content], checksum, size_bytes=len(content), timeout=_PART_S
            )

    async def part(self, name: str, at: int) -> bytes | None:
        """See `Shelf.part`."""
        found = bytearray()
        with _told(self.place):
            try:
                async for answer in self._namespace.download(self._part(name, at), timeout=_PART_S):
                    found += answer.chunk
            except (errors.NotFound, errors.DataLoss):
                return None
        return bytes(found)

    async def remove_part(self, name: str, at: int) -> None:
        """See `Shelf.remove_part`."""
        with _told(self.place):
            await self._namespace.delete(self._part(name, at), allow_missing=True)

    def _part(self, name: str, at: int) -> str:
        return f"{self._record}/{name}/{at:06}"


_REFUSED = (
    errors.NotFound,
    errors.FailedPrecondition,
    errors.InvalidRequest,
    errors.PermissionDenied,
    errors.Unauthenticated,
    errors.Unimplemented,
    errors.QuotaExceeded,
)


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Errors of the client in the words of a shelf."""
    try:
        yield
    except _REFUSED as error:
        raise ShelfRefused(f"snapshots in {place}: the storage service refuses: {error.message}") from error
    except errors.WellspringError as error:
        raise ShelfAway(f"snapshots in {place}: the storage service does not do it now: {error.message}") from error
