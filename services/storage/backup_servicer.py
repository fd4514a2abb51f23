"""StorageAdmin's verbs over whole namespaces: snapshots, restores, exports, imports; and their operations."""

import struct
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

from libs.errors.errors import InvalidArgument
from libs.rpc.call import Call
from services.storage import requests
from services.storage.backup.exporting import Exports
from services.storage.backup.folder import Folder
from services.storage.backup.importing import Importing
from services.storage.backup.snapshots import Snapshots
from services.storage.domain import limits
from services.storage.domain.errors import BackupsNotConfigured
from services.storage.domain.namespace import check_name
from services.storage.operations.runner import Operations
from services.storage.registry import Registry
from services.storage.store.interface import Store
from services.storage.tokens import Tokens
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb

_Part = TypeVar("_Part")
_PLACE: Final = struct.Struct(">16sQ")


class OperationsServicer:
    """Operations, followed and cancelled."""

    def __init__(self, operations: Operations, tokens: Tokens) -> None:
        self._operations = operations
        self._tokens = tokens

    async def GetOperation(self, request: admin_pb.GetOperationRequest, call: Call) -> admin_pb.Operation:
        return await self._operations.get(_named(request.name))

    async def CancelOperation(self, request: admin_pb.CancelOperationRequest, call: Call) -> admin_pb.Operation:
        return await self._operations.cancel(_named(request.name))

    async def ListOperations(
        self, request: admin_pb.ListOperationsRequest, call: Call
    ) -> admin_pb.ListOperationsResponse:
        size = requests.bounded(request.page_size, limits.DEFAULT_PAGE, limits.MAX_PAGE, "page_size")
        identity = (request.target,)
        after = self._tokens.open_page(request.page_token, "ListOperations", identity)
        found = [
            one for one in await self._operations.all(request.target) if after is None or _place(one) < after.decode()
        ]
        page, token = found[:size], ""
        if len(found) > size:
            token = self._tokens.page(_place(page[-1]).encode(), "ListOperations", identity)
        return admin_pb.ListOperationsResponse(operations=page, next_page_token=token)


class BackupServicer:
    """Snapshots, exports and imports. Without a folder each of its verbs is refused as BACKUPS_NOT_CONFIGURED."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        operations: Operations,
        folder: Folder | None,
        exports: Exports | None,
        tokens: Tokens,
        clock_us: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._tokens = tokens
        self._exports = exports
        self._snapshots = Snapshots(folder, registry, operations) if folder is not None else None
        self._importing = Importing(store, registry, folder, clock_us) if folder is not None else None

    async def SnapshotNamespace(self, request: admin_pb.SnapshotNamespaceRequest, call: Call) -> admin_pb.Operation:
        return await _configured(self._snapshots).take(request.name, request.snapshot, call.identity)

    async def RestoreNamespace(self, request: admin_pb.RestoreNamespaceRequest, call: Call) -> admin_pb.Operation:
        return await _configured(self._snapshots).restore(request.snapshot, request.namespace)

    async def ListSnapshots(self, request: admin_pb.ListSnapshotsRequest, call: Call) -> admin_pb.ListSnapshotsResponse:
        size = requests.bounded(request.page_size, limits.DEFAULT_PAGE, limits.MAX_PAGE, "page_size")
        if request.namespace:
            check_name(request.namespace, "namespace")
        identity = (request.namespace,)
        after = self._tokens.open_page(request.page_token, "ListSnapshots", identity) or b""
        found, resume = await _configured(self._snapshots).list(request.namespace, after.decode(), size)
        token = "" if resume is None else self._tokens.page(resume.encode(), "ListSnapshots", identity)
        return admin_pb.ListSnapshotsResponse(snapshots=found, next_page_token=token)

    async def DeleteSnapshot(
        self, request: admin_pb.DeleteSnapshotRequest, call: Call
    ) -> admin_pb.DeleteSnapshotResponse:
        await _configured(self._snapshots).delete(request.name)
        return admin_pb.DeleteSnapshotResponse()

    async def ExportNamespace(
        self, request: admin_pb.ExportNamespaceRequest, call: Call
    ) -> AsyncIterator[admin_pb.ExportNamespaceResponse]:
        exports = _configured(self._exports)
        check_name(request.name, "name")
        gate = self._registry.enter(request.name, call.identity, write=False)
        try:
            namespace = gate.namespace
            identity = (str(namespace.number),)
            place = self._tokens.open_resume(request.resume_token, "ExportNamespace", identity)
            if place is None:
                name, offset = await exports.begin(namespace), 0
            else:
                raw, offset = _PLACE.unpack(place)
                name = raw.hex()
            async for piece in exports.read(name, offset):
                token = self._tokens.resume(_PLACE.pack(bytes.fromhex(name), piece.offset), "ExportNamespace", identity)
                yield admin_pb.ExportNamespaceResponse(data=piece.data, resume_token=token, sha256=piece.sha256)
        finally:
            gate.leave()

    async def ImportNamespace(
        self, sent: AsyncIterator[admin_pb.ImportNamespaceRequest], call: Call
    ) -> admin_pb.ImportNamespaceResponse:
        end = await _configured(self._importing).run(sent, call)
        return admin_pb.ImportNamespaceResponse(records=end.records, items=end.items)


def _configured(part: _Part | None) -> _Part:
    if part is None:
        raise BackupsNotConfigured(
            "this server has no folder for snapshots, exports and imports; its configuration names one as backups.path"
        )
    return part


def _named(name: str) -> str:
    if not 1 <= len(name) <= 128:
        raise InvalidArgument.field("name", "is the name of an operation, 1 to 128 characters")
    return name


def _place(operation: admin_pb.Operation) -> str:
    """Its place in the order of lists, descending."""
    return f"{operation.start_time.ToMicroseconds():020d}{operation.name}"
