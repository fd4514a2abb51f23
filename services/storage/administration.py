"""StorageAdmin put together: the parts that answer its verbs, and the work that they leave in the background."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.clock.clock import Clock
from services.storage.admin_servicer import StorageAdminServicer
from services.storage.backup.exporting import Exports
from services.storage.backup.folder import Folder
from services.storage.backup.jobs import RESTORE, SNAPSHOT, RestoreJob, SnapshotJob
from services.storage.backup_servicer import BackupServicer, OperationsServicer
from services.storage.domain.heat import Heat
from services.storage.inspecting import REBUCKET, Inspector, InspectServicer, RebucketJob
from services.storage.mirroring import MIRROR, MirrorJob, MirrorServicer
from services.storage.mirrors import Mirrors
from services.storage.operations.runner import Job, Operations
from services.storage.registry import Registry
from services.storage.store.interface import Store
from services.storage.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Backups:
    """Where snapshots, exports and imports lie; ``reserve_bytes`` of that disk are left free."""

    path: Path
    reserve_bytes: int


class Administration:
    """One servicer out of its parts: each verb is answered by the part that has it."""

    def __init__(self, *parts: object) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> Any:
        for part in self.__dict__.get("_parts", ()):
            if hasattr(part, name):
                return getattr(part, name)
        raise AttributeError(name)


async def administration(
    store: Store,
    registry: Registry,
    tokens: Tokens,
    clock: Clock,
    heat: Heat,
    backups: Backups | None,
    mirrors: Mirrors,
    *,
    shared: bool,
) -> tuple[Administration, dict[str, Callable[[], Awaitable[None]]]]:
    """The servicer, and its background work by name. ``heat`` is told of requests; ``shared``: other
    servers have the same store. Without ``backups`` the verbs that
    need a folder are refused.

    Takes up what was running when the store was last served. Raises StoreUnavailable when the folder cannot be used.
    """

    def clock_us() -> int:
        return clock.time_ns() // 1000

    inspector = Inspector(store, registry, heat)
    jobs: dict[str, Job] = {REBUCKET: RebucketJob(store, registry, inspector)}
    if mirrors.names:
        jobs[MIRROR] = MirrorJob(store, registry, mirrors, clock_us, random.SystemRandom().random)
    folder: Folder | None = None
    exports: Exports | None = None
    if backups is not None:
        folder = Folder(backups.path, backups.reserve_bytes)
        await folder.prepare()
        exports = Exports(store, folder, clock)
        jobs[SNAPSHOT] = SnapshotJob(store, registry, folder, clock_us)
        jobs[RESTORE] = RestoreJob(store, registry, folder, clock_us)
    operations = Operations(store, jobs, clock, shared=shared)
    await operations.adopt()
    servicer = Administration(
        StorageAdminServicer(store, registry, tokens),
        OperationsServicer(operations, tokens),
        InspectServicer(registry, inspector, operations),
        MirrorServicer(registry, operations, mirrors),
        BackupServicer(store, registry, operations, folder, exports, tokens, clock_us),
    )
    work: dict[str, Callable[[], Awaitable[None]]] = {"operations": operations.run}
    if exports is not None:
        work["exports"] = exports.run
    return servicer, work
