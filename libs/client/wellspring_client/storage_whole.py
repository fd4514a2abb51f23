"""Whole namespaces: snapshots, exports and imports, inspection, and the long-running operations of the storage
service."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from typing import Final, TypeVar

from google.protobuf.message import Message

from wellspring.storage.v1 import storage_admin_pb2 as pb
from wellspring_client.calls import STREAM_S, Caller
from wellspring_client.errors import Cancelled, from_status
from wellspring_client.storage_types import as_bytes

_SERVICE = pb.DESCRIPTOR.services_by_name["StorageAdmin"]
_Answer = TypeVar("_Answer", bound=Message)
_PIECE: Final = 1 << 20
_FIRST_S: Final = 0.05
_LAST_S: Final = 1.0
"""Pauses between looks at an operation: they grow from the first to the last."""


class WholeNamespaces:
    """The methods of :class:`wellspring_client.storage_admin.Storage` over whole namespaces."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    # Snapshots

    async def take_snapshot(self, name: str, snapshot: str, *, timeout: float | None = None) -> pb.Operation:
        """Begin a snapshot of the namespace ``name``: :meth:`finished` waits for it. Raises AlreadyExists."""
        request = pb.SnapshotNamespaceRequest(name=name, snapshot=snapshot)
        return await self._call("SnapshotNamespace", request, pb.Operation, timeout)

    async def restore_snapshot(self, snapshot: str, name: str, *, timeout: float | None = None) -> pb.Operation:
        """Begin to make the new namespace ``name`` out of a snapshot. Raises NotFound, AlreadyExists."""
        request = pb.RestoreNamespaceRequest(snapshot=snapshot, namespace=name)
        return await self._call("RestoreNamespace", request, pb.Operation, timeout)

    async def list_snapshots(self, namespace: str = "", *, timeout: float | None = None) -> AsyncIterator[pb.Snapshot]:
        """The snapshots of ``namespace`` (empty: all), by name. One that has its name alone is damaged."""
        request = pb.ListSnapshotsRequest(namespace=namespace)
        while True:
            answer = await self._call("ListSnapshots", request, pb.ListSnapshotsResponse, timeout)
            for snapshot in answer.snapshots:
                yield snapshot
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def delete_snapshot(self, name: str, *, timeout: float | None = None) -> None:
        """Raises NotFound; FailedPrecondition while it is restored."""
        request = pb.DeleteSnapshotRequest(name=name)
        await self._call("DeleteSnapshot", request, pb.DeleteSnapshotResponse, timeout)

    # Operations

    async def get_operation(self, name: str, *, timeout: float | None = None) -> pb.Operation:
        """Raises NotFound."""
        return await self._call("GetOperation", pb.GetOperationRequest(name=name), pb.Operation, timeout)

    async def list_operations(self, target: str = "", *, timeout: float | None = None) -> AsyncIterator[pb.Operation]:
        """The operations on a namespace or a snapshot (empty: all), newest first."""
        request = pb.ListOperationsRequest(target=target)
        while True:
            answer = await self._call("ListOperations", request, pb.ListOperationsResponse, timeout)
            for operation in answer.operations:
                yield operation
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def cancel_operation(self, name: str, *, timeout: float | None = None) -> pb.Operation:
        """Ask for its end; one that has ended stays as it is. Raises NotFound."""
        return await self._call("CancelOperation", pb.CancelOperationRequest(name=name), pb.Operation, timeout)

    async def follow_operation(self, name: str, *, timeout: float | None = None) -> AsyncIterator[pb.Operation]:
        """The operation as it goes on, until it has ended; the last one is how it ended."""
        pause_s = _FIRST_S
        while True:
            operation = await self.get_operation(name, timeout=timeout)
            yield operation
            if operation.state != pb.Operation.STATE_RUNNING:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(_LAST_S, pause_s * 1.5)

    async def finished(self, operation: pb.Operation, *, timeout: float | None = None) -> pb.Operation:
        """The operation once it has succeeded. Raises the error that it failed with, Cancelled when it was."""
        ended = operation
        async for seen in self.follow_operation(operation.name, timeout=timeout):
            ended = seen
        if ended.state == pb.Operation.STATE_FAILED:
            raise from_status(ended.error)
        if ended.state == pb.Operation.STATE_CANCELLED:
            raise Cancelled(f"the operation {ended.name} was cancelled")
        return ended

    # Exports

    async def export_namespace(self, name: str, *, resume_token: str = "") -> AsyncIterator[pb.ExportNamespaceResponse]:
        """The namespace at one moment, as a stream of bytes; the last answer has their checksum. A connection that
        breaks is taken up where it was; keep the ``resume_token`` of the last answer to do so in another process.

        Raises ResumeTokenExpired when the server no longer has the copy that the token is of.
        """

        def request(token: str) -> pb.ExportNamespaceRequest:
            return pb.ExportNamespaceRequest(name=name, resume_token=token)

        def token_of(answer: pb.ExportNamespaceResponse) -> str:
            return answer.resume_token

        answers = self._caller.resuming(
            _SERVICE, "ExportNamespace", request, pb.ExportNamespaceResponse, resume_token, token_of, endless=False
        )
        async for answer in answers:
            yield answer

    async def import_namespace(
        self,
        name: str,
        chunks: AsyncIterable[bytes] | Iterable[bytes],
        sha256: bytes,
        *,
        timeout: float | None = None,
    ) -> pb.ImportNamespaceResponse:
        """Write an exported stream into a namespace of the same mode. ``sha256`` is what the export gave: the last 32
        bytes of the stream. Not retried: the chunks are gone; the same import again changes nothing more.

        Raises DataLoss when the stream does not match its checksum, having written nothing; QuotaExceeded.
        """

        async def requests() -> AsyncIterator[pb.ImportNamespaceRequest]:
            yield pb.ImportNamespaceRequest(namespace=name)
            async for chunk in _each(chunks):
                for start in range(0, len(chunk), _PIECE):
                    yield pb.ImportNamespaceRequest(data=chunk[start : start + _PIECE])
            yield pb.ImportNamespaceRequest(finish=pb.ImportNamespaceRequest.Finish(sha256=sha256))

        limit_s = STREAM_S if timeout is None else timeout
        return await self._caller.upload(_SERVICE, "ImportNamespace", requests(), pb.ImportNamespaceResponse, limit_s)

    # Care

    async def usage(self, name: str, *, timeout: float | None = None) -> pb.GetUsageResponse:
        """What the namespace holds and does."""
        return await self._call("GetUsage", pb.GetUsageRequest(name=name), pb.GetUsageResponse, timeout)

    async def inspect(self, name: str, *, limit: int = 0, timeout: float | None = None) -> pb.InspectNamespaceResponse:
        """The wide, hot and tombstone-heavy records and those with big values, each with advice."""
        request = pb.InspectNamespaceRequest(name=name, limit=limit)
        return await self._call("InspectNamespace", request, pb.InspectNamespaceResponse, timeout)

    async def rebucket(
        self, name: str, records: Sequence[str | bytes] = (), *, timeout: float | None = None
    ) -> pb.Operation:
        """Begin to spread ``records`` (none: those that :meth:`inspect` finds wide) over as many buckets as they
        need."""
        request = pb.RebucketRecordsRequest(name=name, records=[as_bytes(record) for record in records])
        return await self._call("RebucketRecords", request, pb.Operation, timeout)

    async def mirror(
        self, name: str, backend: str, *, compare: float = 1.0, timeout: float | None = None
    ) -> pb.Operation:
        """Begin to copy the namespace onto another backend that the server's configuration names, and to compare the
        share ``compare`` (0 to 1) of its records by reads of both. Again, it goes on from what is there."""
        request = pb.MirrorNamespaceRequest(name=name, target_backend=backend, shadow_read_share=compare)
        return await self._call("MirrorNamespace", request, pb.Operation, timeout)

    async def admin(
        self, method: str, request: Message, answer: type[_Answer], *, timeout: float | None = None
    ) -> _Answer:
        """Any other unary method of StorageAdmin, by its name and messages."""
        return await self._call(method, request, answer, timeout)

    async def _call(self, method: str, request: Message, answer: type[_Answer], timeout: float | None) -> _Answer:
        return await self._caller.unary(_SERVICE, method, request, answer, timeout)


async def _each(chunks: AsyncIterable[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
