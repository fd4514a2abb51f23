"""Snapshots as callers see them: begun, listed, restored, deleted."""

from libs.errors.errors import WellspringError
from services.storage.backup.folder import Folder, check_snapshot_name, describe
from services.storage.backup.jobs import RESTORE, SNAPSHOT, restored_settings, snapshot_message, taken
from services.storage.domain.errors import SnapshotInUse, SnapshotNotFound
from services.storage.domain.namespace import check_name
from services.storage.operations.runner import Operations
from services.storage.registry import Registry
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb


class Snapshots:
    """The snapshots of a deployment."""

    def __init__(self, folder: Folder, registry: Registry, operations: Operations) -> None:
        self._folder = folder
        self._registry = registry
        self._operations = operations

    async def take(self, name: str, snapshot: str, identity: str) -> admin_pb.Operation:
        """Begins a snapshot. Raises InvalidArgument, NamespaceNotFound, AccessDenied, NamespaceDeleted,
        SnapshotExists."""
        check_name(name, "name")
        check_snapshot_name(snapshot, "snapshot")
        namespace = self._registry.get(name)
        namespace.check_access(identity, write=False)
        namespace.check_ready()
        if snapshot in await self._folder.snapshots():
            raise taken(snapshot)
        arguments = {"namespace": name, "number": str(namespace.number), "snapshot": snapshot}
        return await self._operations.begin(SNAPSHOT, name, arguments)

    async def restore(self, snapshot: str, name: str) -> admin_pb.Operation:
        """Begins a restore. Raises InvalidArgument, SnapshotNotFound, NamespaceExists, ChecksumMismatch."""
        check_snapshot_name(snapshot, "snapshot")
        check_name(name, "namespace")
        header, _ = await describe(await self._folder.snapshot(snapshot))
        arguments = {"snapshot": snapshot, "namespace": name}
        if not await self._operations.uses(RESTORE, "namespace", name):
            self._registry.check_restorable(restored_settings(header, name))
        return await self._operations.begin(RESTORE, snapshot, arguments)

    async def list(self, namespace: str, after: str, size: int) -> tuple[list[admin_pb.Snapshot], str | None]:
        """Snapshots behind ``after``, by name, of ``namespace`` (empty: all); and where to go on, None at the end. One
        that is damaged at its ends is listed by its name alone."""
        found: list[admin_pb.Snapshot] = []
        for name in await self._folder.snapshots():
            if name <= after:
                continue
            shown = await self._shown(name)
            if shown is None or (namespace and shown.namespace != namespace):
                continue
            if len(found) == size:
                return found, found[-1].name
            found.append(shown)
        return found, None

    async def delete(self, name: str) -> None:
        """Raises InvalidArgument, SnapshotNotFound, SnapshotInUse."""
        check_snapshot_name(name, "name")
        if await self._operations.uses(RESTORE, "snapshot", name):
            raise SnapshotInUse(f"a restore of the snapshot {name!r} is under way; wait for it, or cancel it")
        await self._folder.delete_snapshot(name)

    async def _shown(self, name: str) -> admin_pb.Snapshot | None:
        try:
            header, end = await describe(await self._folder.snapshot(name))
        except SnapshotNotFound:
            return None  # it was deleted just now
        except WellspringError:
            return admin_pb.Snapshot(name=name)
        return snapshot_message(name, header, end)
