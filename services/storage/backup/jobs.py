"""The two long-running operations over the folder: a snapshot taken, a snapshot restored.

Both begin from nothing and from what a crash of theirs left; ``README.md`` has the table.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

from services.storage.answers import timestamp
from services.storage.backup.folder import Folder, describe
from services.storage.backup.format import End, Header
from services.storage.backup.loading import load_file, verify_file
from services.storage.backup.writing import write_copy
from services.storage.domain.errors import NamespaceNotFound, SnapshotExists, SnapshotNotFound
from services.storage.domain.namespace import Settings
from services.storage.namespaces import to_message
from services.storage.operations.runner import Progress
from services.storage.registry import Registry
from services.storage.store.interface import Store
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb

SNAPSHOT: Final = "snapshot"
RESTORE: Final = "restore"


class SnapshotJob:
    """Arguments: ``namespace``, its ``number``, and the ``snapshot`` to be made of it."""

    def __init__(self, store: Store, registry: Registry, folder: Folder, clock_us: Callable[[], int]) -> None:
        self._store = store
        self._registry = registry
        self._folder = folder
        self._clock_us = clock_us

    async def run(self, arguments: Mapping[str, str], progress: Progress) -> admin_pb.Snapshot:
        """As ``Job.run``. Progress counts records."""
        name = arguments["snapshot"]
        made = await self._made(name, progress.name)
        if made is not None:
            return made
        namespace = self._registry.get(arguments["namespace"])
        namespace.check_ready()
        if str(namespace.number) != arguments["number"]:
            raise NamespaceNotFound.named(namespace.name)  # it was deleted, and another made under its name
        total = (await self._store.usage(namespace)).records
        progress.told(0, total)
        draft = await self._folder.draft_snapshot()
        try:
            now_us = self._clock_us()
            end = await write_copy(
                self._store, namespace, draft, now_us=now_us, operation=progress.name, told=progress.told
            )
            progress.told(end.records)
            try:
                await draft.keep(name)
            except SnapshotExists:
                made = await self._made(name, progress.name)
                if made is None:
                    raise
                return made
        finally:
            draft.discard()
        return snapshot_message(name, Header(namespace, now_us, progress.name), end)

    async def undo(self, arguments: Mapping[str, str], progress: Progress) -> None:
        """As ``Job.undo``: a draft goes by itself. One that was kept is whole, and stays."""

    async def _made(self, name: str, operation: str) -> admin_pb.Snapshot | None:
        """The snapshot, when this operation made it before a crash. Raises SnapshotExists for another's."""
        try:
            header, end = await describe(await self._folder.snapshot(name))
        except SnapshotNotFound:
            return None
        if header.operation != operation:
            raise taken(name)
        return snapshot_message(name, header, end)


class RestoreJob:
    """Arguments: the ``snapshot``, and the ``namespace`` to be made of it."""

    def __init__(self, store: Store, registry: Registry, folder: Folder, clock_us: Callable[[], int]) -> None:
        self._store = store
        self._registry = registry
        self._folder = folder
        self._clock_us = clock_us

    async def run(self, arguments: Mapping[str, str], progress: Progress) -> admin_pb.Namespace:
        """As ``Job.run``. Progress counts items."""
        name = arguments["namespace"]
        if self._over(name, progress.started_us):
            return to_message(self._registry.get(name))
        path = await self._folder.snapshot(arguments["snapshot"])

        async def reading(_: int, done: int) -> None:
            progress.told(done)

        header, end = await verify_file(path, now_us=self._clock_us(), pace=reading)
        settings = restored_settings(header, name)
        progress.told(0, end.items)
        namespace = await self._registry.begin_restore(settings, progress.started_us)
        await load_file(self._store, namespace, path, clock_us=self._clock_us, pace=reading, free=True)
        progress.told(end.items)
        return to_message(await self._registry.end_restore(name, progress.started_us))

    async def undo(self, arguments: Mapping[str, str], progress: Progress) -> None:
        """As ``Job.undo``."""
        await self._registry.drop_restore(arguments["namespace"], progress.started_us)

    def _over(self, name: str, started_us: int) -> bool:
        """Whether this restore ended before the server did."""
        try:
            namespace = self._registry.get(name)
        except NamespaceNotFound:
            return False
        return namespace.create_us == started_us and not namespace.restoring


def taken(name: str) -> SnapshotExists:
    """The error for a snapshot's name that is taken."""
    return SnapshotExists(f"there is a snapshot {name!r} already; delete it, or take another name")


def restored_settings(header: Header, name: str) -> Settings:
    """The settings of the namespace ``name`` restored from a snapshot: as they were, but bound to nothing."""
    return dataclasses.replace(header.namespace.settings, name=name, binding=None)


def snapshot_message(name: str, header: Header, end: End) -> admin_pb.Snapshot:
    """A snapshot as its message."""
    return admin_pb.Snapshot(
        name=name,
        namespace=header.namespace.name,
        create_time=timestamp(header.taken_us),
        records=end.records,
        items=end.items,
        bytes=end.size_bytes,
        checksum=end.sha256,
    )
