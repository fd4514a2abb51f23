"""Big values: a stream of chunks that becomes visible by one write at its end, and the stream back."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

import google_crc32c

from libs.errors.errors import InvalidArgument, WellspringError
from libs.rpc.call import Call
from services.storage import answers, requests
from services.storage.domain import limits
from services.storage.domain.commands import body_digest
from services.storage.domain.errors import ChecksumMismatch, ConditionFailed, OffsetOutOfRange, ValueTooLarge
from services.storage.domain.model import Command, Outcome, Put, Receipt, WriteToken, etag_of
from services.storage.domain.namespace import Namespace
from services.storage.registry import Registry
from services.storage.store import manifest as manifests
from services.storage.store.interface import Store, Write
from services.storage.store.manifest import Manifest
from wellspring.storage.v1 import storage_pb2 as pb


class ReceiptFiller(Protocol):
    """Fills the message of a receipt."""

    def __call__(self, answer: pb.Receipt, given: Receipt, space: Namespace, record: bytes) -> None: ...


class Uploading:
    """Upload and Download."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        reader: requests.Reader,
        clock_us: Callable[[], int],
        fill_receipt: ReceiptFiller,
        max_upload: int,
    ) -> None:
        self._store = store
        self._registry = registry
        self._reader = reader
        self._clock_us = clock_us
        self._fill_receipt = fill_receipt
        self._max_upload = max_upload

    async def upload(self, sent: AsyncIterator[pb.UploadRequest], call: Call) -> pb.UploadResponse:
        """Header, chunks, finish. Whatever ends it before its last write leaves the old value and nothing else."""
        header = await _header(sent)
        gate = self._registry.enter(header.namespace, call.identity, write=True)
        try:
            space = gate.namespace
            token, put = self._opened(header, space)
            upload = await self._store.begin_upload(space, self._clock_us())
            given = None
            try:
                manifest = await self._receive(sent, space, upload, header.size_bytes)
                given = await self._finish(header, space, token, put, manifest)
            finally:
                if given is None or given.outcome is not Outcome.APPLIED:
                    await self._store.drop_upload(space, upload)
            answer = pb.UploadResponse()
            self._fill_receipt(answer.receipt, given, space, header.record)
            return answer
        finally:
            gate.leave()

    def _opened(self, header: pb.UploadRequest.Header, space: Namespace) -> tuple[WriteToken, Put]:
        requests.check_record(header.record, space)
        token = requests.read_token(header.token, "header.token")
        if not 0 <= header.size_bytes <= self._max_upload:
            what = f"is {header.size_bytes}; at most {self._max_upload} bytes are allowed, 0 when not known"
            raise InvalidArgument.field("header.size_bytes", what)
        if header.item.value:
            raise InvalidArgument.field("header.item.value", "belongs into chunks")
        condition = None
        if header.HasField("condition"):
            condition = requests.read_condition(header.condition, "header.condition")
        return token, self._reader.item(header.item, token, "header.item", condition)

    async def _receive(
        self, sent: AsyncIterator[pb.UploadRequest], space: Namespace, upload: bytes, announced: int
    ) -> Manifest:
        sizes: list[int] = []
        size = crc = 0
        async for request in sent:
            kind = request.WhichOneof("kind")
            if kind == "finish":
                if request.finish.crc32c != crc:
                    raise ChecksumMismatch("the bytes that arrived do not match finish.crc32c; upload them again")
                if announced and size != announced:
                    what = f"{announced} were announced in header.size_bytes, {size} came"
                    raise InvalidArgument.field("finish", what)
                return Manifest(upload, size, crc, tuple(sizes))
            chunk = request.chunk
            if kind != "chunk" or not 1 <= len(chunk) <= limits.MAX_CHUNK:
                raise InvalidArgument.field("chunk", f"1 to {limits.MAX_CHUNK} bytes, or finish, are expected here")
            size += len(chunk)
            if size > self._max_upload:
                what = f"more than {self._max_upload} bytes came"
                raise ValueTooLarge(f"chunk: {what}", violations=[("chunk", what)])
            crc = google_crc32c.extend(crc, chunk)
            await self._store.put_chunk(space, upload, len(sizes), chunk)
            sizes.append(len(chunk))
        raise InvalidArgument.field("finish", "is missing: the stream ended before it, and nothing was stored")

    async def _finish(
        self, header: pb.UploadRequest.Header, space: Namespace, token: WriteToken, put: Put, manifest: Manifest
    ) -> Receipt:
        content = manifest.size.to_bytes(8, "big") + manifest.crc32c.to_bytes(4, "big")
        body = body_digest((put,), (), None, None, content)
        put = put._replace(value=manifests.encode(manifest), chunked=True)
        command = Command(header.record, token, self._reader.with_ttl((put,), token, space), (), (0,), body)
        (given,) = await self._store.mutate((Write(space, command),))
        if isinstance(given, WellspringError):
            raise given
        return given

    async def download(self, request: pb.DownloadRequest, call: Call) -> AsyncIterator[pb.DownloadResponse]:
        """The item, its bytes, and their checksum when all of them were asked for."""
        gate = self._registry.enter(request.namespace, call.identity, write=False)
        try:
            space = gate.namespace
            requests.check_record(request.record, space)
            if request.offset < 0 or request.limit < 0:
                raise InvalidArgument.field("offset" if request.offset < 0 else "limit", "is negative")
            item, manifest, value = await self._store.manifest(space, request.record, request.item_key)
            if request.if_etag and etag_of(item.version) != request.if_etag:
                raise ConditionFailed(etag_of(item.version), 0)
            if request.offset > item.size:
                raise OffsetOutOfRange(f"offset is {request.offset}; the value has {item.size} bytes")
            answer = pb.DownloadResponse()
            answers.fill_item(answer.item, item, omit_value=True)
            yield answer
            limit = request.limit or item.size
            if manifest is None:
                end = request.offset + limit
                for start in range(request.offset, min(end, len(value)), limits.MAX_CHUNK):
                    yield pb.DownloadResponse(chunk=value[start : min(start + limits.MAX_CHUNK, end)])
                crc = google_crc32c.value(value)
            else:
                async for chunk in self._store.chunks(space, manifest, request.offset, limit):
                    yield pb.DownloadResponse(chunk=chunk)
                crc = manifest.crc32c
            if request.offset == 0 and limit >= item.size:
                yield pb.DownloadResponse(crc32c=crc)
        finally:
            gate.leave()


async def _header(sent: AsyncIterator[pb.UploadRequest]) -> pb.UploadRequest.Header:
    async for request in sent:
        if request.WhichOneof("kind") == "header":
            return request.header
        break
    raise InvalidArgument.field("header", "is expected first")
