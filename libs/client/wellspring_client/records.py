"""Typed records: a class of your own in a namespace, one value a record, read and changed without lost updates.

::

    @dataclass(frozen=True)
    class Note:
        text: str
        done: bool = False

    notes = client.storage.namespace("notes").records(Note)
    notes.put("monday", Note("water the plants"))
    notes.update("monday", lambda note: replace(note, done=True))
    for stored in notes.scan(prefix="mon"):
        print(stored.key, stored.value.text)
"""

import asyncio
import dataclasses
import datetime
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

from wellspring.storage.v1 import storage_pb2 as pb
from wellspring_client.errors import ConditionFailed, NotFound
from wellspring_client.record_codecs import Codec
from wellspring_client.storage_types import Record, as_bytes

T = TypeVar("T")

_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.001
_PAUSE_MOST_S: Final = 0.25
"""Between attempts, at random up to this: those who collide come back apart."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A record as it was read: ``etag`` is that of this value, for a write that must not overwrite another."""

    key: bytes
    value: T
    etag: str
    version: bytes
    write_time: datetime.datetime


class _Namespace(Protocol):
    """What of a namespace's methods records stand on."""

    async def get(
        self, record: str | bytes, key: str | bytes = b"", *, cookie: str = "", timeout: float | None = None
    ) -> pb.Item | None: ...

    async def get_many(
        self, records: Sequence[str | bytes], key: str | bytes = b"", *, timeout: float | None = None
    ) -> list[pb.Item | None]: ...

    async def put(
        self,
        record: str | bytes,
        value: bytes,
        *,
        content_type: str = "",
        ttl: datetime.timedelta | None = None,
        if_absent: bool = False,
        if_etag: str | None = None,
        annotations: Mapping[str, str] | None = None,
        token: pb.WriteToken | None = None,
        timeout: float | None = None,
    ) -> pb.Receipt: ...

    async def delete(
        self,
        record: str | bytes,
        *,
        allow_missing: bool = False,
        if_etag: str | None = None,
        annotations: Mapping[str, str] | None = None,
        token: pb.WriteToken | None = None,
        timeout: float | None = None,
    ) -> pb.Receipt: ...

    def record_pages(self, *, prefix: str | bytes | None = None) -> AsyncIterator[list[Record]]: ...


class Records(Generic[T]):
    """The records of a namespace as values of one class. Values lie in the item without a key."""

    def __init__(self, namespace: _Namespace, codec: Codec[T]) -> None:
        self._namespace = namespace
        self._codec = codec

    async def get(self, key: str | bytes, *, cookie: str = "", timeout: float | None = None) -> Stored[T] | None:
        """The record, None when it is not there. Raises RecordInvalid when what is stored is not of the class."""
        item = await self._namespace.get(key, cookie=cookie, timeout=timeout)
        return None if item is None else self._stored(as_bytes(key), item)

    async def get_many(self, keys: Sequence[str | bytes], *, timeout: float | None = None) -> list[Stored[T] | None]:
        """Many records, in order, None for each that is not there."""
        items = await self._namespace.get_many(keys, timeout=timeout)
        return [
            None if item is None else self._stored(as_bytes(key), item) for key, item in zip(keys, items, strict=True)
        ]

    async def put(
        self,
        key: str | bytes,
        value: T,
        *,
        ttl: datetime.timedelta | None = None,
        if_absent: bool = False,
        if_etag: str | None = None,
        annotations: Mapping[str, str] | None = None,
        token: pb.WriteToken | None = None,
        timeout: float | None = None,
    ) -> pb.Receipt:
        """Store a value. ``if_absent`` and ``if_etag`` need a CAS namespace. Raises ConditionFailed, RecordInvalid."""
        return await self._namespace.put(
            key,
            self._codec.encode(value),
            content_type=self._codec.content_type,
            ttl=ttl,
            if_absent=if_absent,
            if_etag=if_etag,
            annotations=annotations,
            token=token,
            timeout=timeout,
        )

    async def update(
        self,
        key: str | bytes,
        change: Callable[[T], T],
        *,
        default: T | None = None,
        annotations: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Stored[T]:
        """Read, change, write, and again when somebody was faster: no update is lost. In CAS namespaces.

        ``change`` may be called more than once, and should do nothing else. ``default`` is changed when nothing is
        there. Raises NotFound when there is none and nothing is there, ConditionFailed after 20 attempts.
        """
        attempt = 0
        while True:
            attempt += 1
            item = await self._namespace.get(key, timeout=timeout)
            if item is None and default is None:
                raise NotFound(f"there is no record {as_bytes(key)!r}", reason="ITEM_NOT_FOUND")
            before = default if item is None else self._codec.decode(item.value)
            assert before is not None  # one of the two is there
            after = change(before)
            try:
                receipt = await self.put(
                    key,
                    after,
                    if_absent=item is None,
                    if_etag=None if item is None else item.etag,
                    annotations=annotations,
                    timeout=timeout,
                )
            except ConditionFailed:
                if attempt >= _ATTEMPTS:
                    raise
                most_s = min(_PAUSE_MOST_S, _PAUSE_S * 2**attempt)
                await asyncio.sleep(most_s * secrets.randbelow(1000) / 1000)
                continue
            now = datetime.datetime.now(datetime.UTC)
            return Stored(as_bytes(key), after, receipt.etag, receipt.version, now)

    async def delete(
        self,
        key: str | bytes,
        *,
        allow_missing: bool = False,
        if_etag: str | None = None,
        annotations: Mapping[str, str] | None = None,
        token: pb.WriteToken | None = None,
        timeout: float | None = None,
    ) -> pb.Receipt:
        """Delete a record. Raises NotFound unless ``allow_missing``."""
        return await self._namespace.delete(
            key, allow_missing=allow_missing, if_etag=if_etag, annotations=annotations, token=token, timeout=timeout
        )

    async def scan_pages(self, *, prefix: str | bytes | None = None) -> AsyncIterator[list[Stored[T]]]:
        """As :meth:`scan`, an answer at a time."""
        async for page in self._namespace.record_pages(prefix=prefix):
            yield [self._stored(one.key, one.items[0]) for one in page if one.items and not one.items[0].key]

    async def scan(self, *, prefix: str | bytes | None = None) -> AsyncIterator[Stored[T]]:
        """All records, or those under ``prefix``, in the order of their keys."""
        async for page in self.scan_pages(prefix=prefix):
            for stored in page:
                yield stored

    def _stored(self, key: bytes, item: pb.Item) -> Stored[T]:
        written = item.write_time.ToDatetime(datetime.UTC)
        return Stored(key, self._codec.decode(item.value), item.etag, item.version, written)
