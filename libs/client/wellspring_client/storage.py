"""Storage: namespaces and their records. Answers are the messages of ``wellspring.storage.v1``, but for a record."""

import datetime
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from wellspring.storage.v1 import storage_pb2 as pb
from wellspring_client.calls import Caller
from wellspring_client.errors import WellspringError, from_status
from wellspring_client.record_codecs import Codec, codec_for
from wellspring_client.records import Records
from wellspring_client.storage_reads import SERVICE, NamespaceReads
from wellspring_client.storage_types import ColumnsPut, Delete, Put, as_bytes, condition, put_item, selection
from wellspring_client.tokens import WriteTokens

_Kind = TypeVar("_Kind")
_BATCH = 1_000
_BATCH_BYTES = 3 << 20
_CHUNK = 1 << 20


class Namespace(NamespaceReads):
    """One namespace. Record and item keys are bytes, or text, which stands for its UTF-8.

    Every write takes a ``token``; without one a fresh token is minted. A write that failed with Unavailable or
    DeadlineExceeded is made again with the same token (``new_token``) to be the same write.
    """

    def __init__(self, caller: Caller, name: str, tokens: WriteTokens) -> None:
        super().__init__(caller, name)
        self._tokens = tokens

    def new_token(self) -> pb.WriteToken:
        """The identity of one logical write, for its first attempt and all its retries."""
        return self._tokens.next()

    def records(self, kind: type[_Kind], *, codec: Codec[_Kind] | None = None) -> Records[_Kind]:
        """The records as values of the class ``kind``, a dataclass or a pydantic model; others need a ``codec``. Raises
        TypeError for a class that cannot be stored."""
        return Records(self, codec or codec_for(kind))

    async def put(
        self,
        record: str | bytes,
        value: bytes,
        *,
        key: str | bytes = b"",
        content_type: str = "",
        attributes: Mapping[str, str] | None = None,
        ttl: datetime.timedelta | None = None,
        expire_time: datetime.datetime | None = None,
        if_absent: bool = False,
        if_etag: str | None = None,
        older_than: bytes | None = None,
        annotations: Mapping[str, str] | None = None,
        token: pb.WriteToken | None = None,
        timeout: float | None = None,
    ) -> pb.Receipt:
        """Set one item. ``if_absent`` and ``if_etag`` need a CAS namespace, ``older_than`` (a 16-byte version) an LWW
        one.

        Raises ConditionFailed, ValueTooLarge, QuotaExceeded, NotFound (the namespace) and what every call raises.
        """
        put = Put(
            value,
            key=key,
            content_type=content_type,
            attributes=attributes or {},
            ttl=ttl,
            expire_time=expire_time,
            if_absent=if_absent,
            if_etag=if_etag,
            older_than=older_than,
        )
        request = pb.PutRequest(
            namespace=self.name,
            record=as_bytes(record),
            item=put_item(put),
            condition=condition(put),
            token=token or self.new_token(),
            annotations=annotations or {},
        )
        return (await self._call("Put", request, pb.PutResponse, timeout)).receipt

    async def mutate(
        self,
        record: str | bytes,
        changes: Sequence[Put | Delete],
        *,
        if_record_absent: bool = False,
        if_record_etag: str | None = None,
        annotations: Mapping[str, str] | None = None,
        token: pb.WriteToken | None = None,
        timeout: float | None = None,
    ) -> pb.Receipt:
        """Several changes of one record, all or nothing. Raises as :meth:`put`; ``error.metadata["index"]`` names the
        change.
        """
        request = pb.MutateRequest(
            namespace=self.name,
            record=as_bytes(record),
            token=token or self.new_token(),
            mutations=[change.mutation() for change in changes],
            record_condition=condition(Put(b"", if_absent=if_record_absent, if_etag=if_record_etag)),
            annotations=annotations or {},
        )
        return (await self._call("Mutate", request, pb.MutateResponse, timeout)).receipt

    async def put_many(
        self,
        records: Iterable[tuple[str | bytes, Put | bytes]],
        *,
        annotations: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> list[pb.Receipt | WellspringError]:
        """Put one item into each of many records: in order the receipt of each, or its error. Each is a write of its
        own.
        """
        outcomes: list[pb.Receipt | WellspringError] = []
        batch, size = pb.BatchMutateRequest(), 0
        for record, given in records:
            put = given if isinstance(given, Put) else Put(given)
            request = pb.MutateRequest(
                namespace=self.name,
                record=as_bytes(record),
                token=self.new_token(),
                mutations=[put.mutation()],
                annotations=annotations or {},
            )
            if batch.requests and (len(batch.requests) >= _BATCH or size + len(put.value) > _BATCH_BYTES):
                outcomes += await self._batch_mutate(batch, timeout)
                batch, size = pb.BatchMutateRequest(), 0
            batch.requests.append(request)
            size += len(put.value) + 256
        return outcomes + (await self._batch_mutate(batch, timeout) if batch.requests else [])

    async def put_columns(
        self,
        values: Mapping[bytes, bytes],
        *,
        key: str | bytes = b"",
        content_type: str = "",
        if_absent: bool = False,
        older_than: bytes | None = None,
        token: pb.WriteToken | None = None,
        timeout: float | None = None,
    ) -> ColumnsPut:
        """Put one item into each of many records (record -> value) that differ in nothing else: the fastest way in, for
        nothing is said or answered for each but its value and its outcome. One token for all: what failed half way is
        made again as it was, with the same. Raises what every call raises; ``timeout`` is of each call.
        """
        same = pb.PutManyRequest(
            namespace=self.name,
            token=token or self.new_token(),
            item_key=as_bytes(key),
            content_type=content_type,
            condition=condition(Put(b"", if_absent=if_absent, older_than=older_than)),
        )
        outcomes: dict[bytes, pb.Outcome.ValueType | WellspringError] = {}
        cookie = ""
        for records in _pieces(values):
            request = pb.PutManyRequest(records=records, values=[values[record] for record in records])
            request.MergeFrom(same)
            answer = await self._call("PutMany", request, pb.PutManyResponse, timeout)
            outcomes.update(zip(records, map(pb.Outcome.ValueType, answer.outcomes), strict=True))
            outcomes |= {records[one.index]: from_status(one.status) for one in answer.refusals}
            cookie = answer.cookie or cookie
        return ColumnsPut(outcomes, cookie)

    async def delete(
        self,
        record: str | bytes,
        *,
        keys: Sequence[str | bytes] | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        allow_missing: bool = False,
        dry_run: bool = False,
        if_etag: str | None = None,
        annotations: Mapping[str, str] | None = None,
        token: pb.WriteToken | None = None,
        timeout: float | None = None,
    ) -> pb.Receipt:
        """Delete items by key, by range [start, end), or the whole record. Raises NotFound unless ``allow_missing``."""
        request = pb.DeleteRequest(
            namespace=self.name,
            record=as_bytes(record),
            selection=selection(keys, start, end),
            token=token or self.new_token(),
            condition=condition(Put(b"", if_etag=if_etag)),
            allow_missing=allow_missing,
            dry_run=dry_run,
            annotations=annotations or {},
        )
        return (await self._call("Delete", request, pb.DeleteResponse, timeout)).receipt

    async def upload(
        self,
        record: str | bytes,
        chunks: AsyncIterable[bytes] | Iterable[bytes],
        crc32c: int,
        *,
        item: pb.Item | None = None,
        size_bytes: int = 0,
        token: pb.WriteToken | None = None,
        timeout: float | None = None,
    ) -> pb.Receipt:
        """Store one big value out of ``chunks`` (any sizes), whose CRC-32C is ``crc32c``. Not retried: the chunks are
        gone.
        """
        header = pb.UploadRequest.Header(
            namespace=self.name,
            record=as_bytes(record),
            item=item,
            token=token or self.new_token(),
            size_bytes=size_bytes,
        )

        async def requests() -> AsyncIterator[pb.UploadRequest]:
            yield pb.UploadRequest(header=header)
            async for chunk in _each(chunks):
                for start in range(0, len(chunk), _CHUNK):
                    yield pb.UploadRequest(chunk=chunk[start : start + _CHUNK])
            yield pb.UploadRequest(finish=pb.UploadRequest.Finish(crc32c=crc32c))

        answer = await self._caller.upload(SERVICE, "Upload", requests(), pb.UploadResponse, timeout)
        return answer.receipt

    async def _batch_mutate(
        self, batch: pb.BatchMutateRequest, timeout: float | None
    ) -> list[pb.Receipt | WellspringError]:
        answer = await self._call("BatchMutate", batch, pb.BatchMutateResponse, timeout)
        return [from_status(one.status) if one.status.code else one.receipt for one in answer.results]


def _pieces(values: Mapping[bytes, bytes]) -> Iterator[list[bytes]]:
    """The records in pieces that a request holds."""
    piece: list[bytes] = []
    size = 0
    for record, value in values.items():
        if piece and (len(piece) >= _BATCH or size + len(value) > _BATCH_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(record)
        size += len(value) + len(record)
    if piece:
        yield piece


async def _each(chunks: AsyncIterable[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
