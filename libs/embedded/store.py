"""The durable embedded store: what all services stand on when no server is installed.

A store is a data directory held by one process: sorted families of byte keys over RocksDB, changed by atomic batches.

What it promises:

* **Durable.** A commit is answered after its batch is on disk (fdatasync of the write-ahead log); kill -9 or a power
  cut at any moment loses nothing that was answered, and what is recovered is a prefix, in order, of what was submitted.
* **The loop is the lock.** `submit` applies the batch before it returns: every later read sees it, and batches apply in
  the order of submission. Code on the event loop that reads, decides and submits with no ``await`` between is therefore
  atomic: no lock is needed for a conditional write. Only becoming durable is waited for, and one sync covers all that
  wait (group.py).
* **No acknowledgement after a failure.** When the disk fails a write or a sync, all that waits fails, and so does every
  later write, until the process is started anew. A commit that failed may still be found after the restart: its outcome
  is unknown, not "not done".

A read may see a batch a moment before it is durable. An answer that must not be undone even by a power cut waits for
`durable`.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from libs.embedded import bulk
from libs.embedded.batch import Batch
from libs.embedded.database import Database
from libs.embedded.directory import DataDirectory, write_format
from libs.embedded.failures import DiskFull, StoreUnavailable, WrongDirectory, translate
from libs.embedded.family import Family, FamilySize
from libs.embedded.group import GroupCommit
from libs.embedded.settings import FamilySpec, Settings
from libs.embedded.snapshot import Snapshot
from libs.embedded.space import Reserve, free_bytes
from libs.errors.errors import WellspringError
from libs.files import durable

_Result = TypeVar("_Result")
_LATER_S: Final = 1.0


class EmbeddedStore:
    """An open data directory. All methods belong to the thread of the event loop, except where it is said otherwise."""

    def __init__(
        self,
        directory: DataDirectory,
        database: Database,
        settings: Settings,
        free: Callable[[Path], int],
    ) -> None:
        """Use :meth:`open`."""
        self.path = directory.path
        self.settings = settings
        self._directory = directory
        self._database = database
        self._families = database.families
        self._reserve = Reserve(directory.path, settings.reserve_bytes, free)
        self._group = GroupCommit(database.sync, settings.max_pending_commits, f"writing to {directory.path}")
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        schema: str,
        version: int,
        families: Sequence[FamilySpec],
        oldest: int | None = None,
        settings: Settings | None = None,
        free: Callable[[Path], int] = free_bytes,
    ) -> "EmbeddedStore":
        """Create or open the data directory ``path`` for data of the service ``schema`` in its format ``version``, and
        hold it.

        Data of a format from ``oldest`` on (None: of ``version`` alone) is taken over as it is; what wrote it opens it
        no more. ``families`` are all that the version has; one that the directory lacks is created. ``free`` tells the
        free bytes of a disk. Blocks while what a crash left in the log is recovered. Raises DirectoryInUse,
        WrongDirectory, StoreUnavailable, DiskFull or StoreDamaged; each says what is there and what to do.
        """
        tuned = settings or Settings()
        directory = DataDirectory.acquire(Path(path), schema=schema, version=version, oldest=oldest)
        try:
            if free(directory.path) < tuned.reserve_bytes // 8:
                raise DiskFull(
                    f"the disk of {path} is full: a store cannot be opened on it; free space, then start again"
                )
            database = Database.open(directory, families, tuned)
        except BaseException as error:
            directory.release()
            if isinstance(error, Exception):
                raise translate(error, f"opening the data directory {path}") from error
            raise
        return cls(directory, database, tuned, free)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Reading

    def family(self, name: str) -> Family:
        """The family ``name``: its methods read. Raises KeyError for one that was not named to :meth:`open`."""
        return self._families[name]

    def snapshot(self, *names: str) -> Snapshot:
        """The named families (all when none is named) as they are now. Close it soon: it pins files."""
        self._check_open()
        return Snapshot({name: self._families[name].iterator() for name in names or self._families})

    # Writing

    def batch(self) -> Batch:
        """An empty batch."""
        return Batch()

    def submit(self, batch: Batch, patience_s: float = 0.0) -> asyncio.Future[None]:
        """Apply ``batch`` now; the future is done when it is durable.

        With ``patience_s`` it may wait so long for others to share its sync: for bulk, of which many batches are under
        way, and for what nobody waits for. The disk is then free more often when one comes that cannot wait.

        Applied means: every later read sees it, later batches come after it. Raises, having done nothing: QueueFull
        when too many commits wait, DiskFull when a put would cut into the reserve, StoreUnavailable when the store is
        closed or has failed, ValueError when the batch was used before. The future fails with DiskFull or
        StoreUnavailable when the disk fails.
        """
        self._check_open()
        self._group.check_room()
        self._write(batch)
        return self._group.enter(patience_s)

    async def commit(self, batch: Batch) -> None:
        """Apply ``batch`` and wait until it is durable; when too many commits wait for the disk, first wait for room.

        For a batch that does not depend on what was read before: with room it is applied before the first suspension,
        without room other batches come in between. Raises as :meth:`submit`, except QueueFull.
        """
        while self._group.pending >= self.settings.max_pending_commits and self._group.failure is None:
            await self._group.room()
        await self.submit(batch)

    async def transact(self, decide: Callable[[Batch], _Result], *, wait: bool = True) -> _Result:
        """Read, decide, write: ``decide`` is called with an empty batch when there is room, may read the store, fills
        the batch and returns an answer, which is given back when the batch is durable. Nothing else happens between its
        reads and its writes.

        An empty batch is not written, but the answer waits for what was read to be durable. What ``decide`` raises
        passes through, and its batch is dropped. Without ``wait`` the answer is given at once, and the batch shares the
        sync of whatever is waited for next, :meth:`durable` included, or has one of its own a second later: for many
        pieces of housekeeping that nobody is told of.
        """
        while self._group.pending >= self.settings.max_pending_commits and self._group.failure is None:
            await self._group.room()
        self._check_open()
        batch = Batch()
        answer = decide(batch)
        if not wait:
            if len(batch):
                self.submit(batch, _LATER_S).add_done_callback(_heeded)
        elif len(batch):
            await self.submit(batch)
        else:
            await self.durable()
        return answer

    async def durable(self, sequence: int | None = None) -> None:
        """Wait until the batch that ``written_sequence`` numbered so, or everything applied so far, is durable.

        Returns at once when it is. Raises as the commits do.
        """
        self._check_open()
        await self._group.barrier(self._group.written if sequence is None else sequence)

    @property
    def written_sequence(self) -> int:
        """The number of the newest batch applied, counted from 1 since the store was opened."""
        return self._group.written

    @property
    def durable_sequence(self) -> int:
        """The number of the newest batch that is durable: all before it are as well."""
        return self._group.durable

    def write_through(self, batch: Batch) -> None:
        """Apply ``batch`` and block until it is durable: for tools and start-up, where no event loop runs. Raises as
        :meth:`submit`.
        """
        self._check_open()
        self._write(batch)
        try:
            self._database.sync()
        except Exception as error:
            failure = translate(error, f"writing to {self.path}")
            self._group.fail(failure)
            raise failure from error

    def ingest(self, family: str, items: Iterable[tuple[bytes, bytes]]) -> int:
        """Write many ``items`` (key, value), sorted by key without doubles, as a file beside the log, then show all of
        them at once.

        Several times faster than batches. Durable when it returns; returns their number. Blocks: call it in a thread
        (``asyncio.to_thread``) while the loop runs. A key that is there already is overwritten. Raises ValueError when
        the keys are not strictly ascending (nothing is shown then), DiskFull or StoreUnavailable.
        """
        self._check_open()
        self._reserve.check(0)
        return bulk.ingest(
            self._families[family],
            items,
            self.path / "ingest",
            self._database.family_options(family),
        )

    # Care

    @property
    def failure(self) -> WellspringError | None:
        """Why the store stopped taking writes; None while it is well. For readiness: a failed store does not recover by
        itself.
        """
        return self._group.failure

    @property
    def pending(self) -> int:
        """How many commits wait for the disk."""
        return self._group.pending

    @property
    def syncs(self) -> int:
        """How often the log was synced for waiting commits since the store was opened."""
        return self._group.syncs

    def sizes(self) -> dict[str, FamilySize]:
        """What each family takes."""
        self._check_open()
        return {name: family.size() for name, family in self._families.items()}

    async def compact(self, family: str, *, start: bytes | None = None, end: bytes | None = None) -> None:
        """Rewrite [start, end) of ``family`` without what was deleted or overwritten: for inspection and benches;
        RocksDB does it by itself in time. Raises StoreUnavailable or DiskFull."""
        self._check_open()
        await asyncio.to_thread(self._families[family].compact, start, end)

    async def checkpoint(self, path: str | Path) -> None:
        """Make ``path``, which must not exist, a data directory with the state of now: hard links where the disk is the
        same.

        The copy may be opened or moved away while this store goes on. Raises WrongDirectory, DiskFull or
        StoreUnavailable.
        """
        self._check_open()
        await self.durable()
        await asyncio.to_thread(self._checkpoint, Path(path))

    def close(self) -> None:
        """Sync, write memory out so that the next start need not recover, and give the directory back. Blocks; harmless
        twice.

        Snapshots and scans that are still held keep the files open until they are let go.
        """
        if self._closed:
            return
        self._closed = True
        self._group.stop()
        try:
            if self._group.failure is None:
                self._database.sync()
                self._group.finish()
                self._database.write_out()
        except Exception as error:
            self._group.fail(translate(error, f"closing {self.path}"))
        finally:
            self._group.fail(
                StoreUnavailable("the store was closed before the write was durable; its outcome is unknown")
            )
            for family in self._families.values():
                family.close()
            self._database.close()
            self._directory.release()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed: the service is stopping")
        if self._group.failure is not None:
            raise self._group.failure

    def _write(self, batch: Batch) -> None:
        if batch.puts:
            self._reserve.check(batch.size_bytes, frees=batch.frees)
        raw = batch.take()
        try:
            self._database.write(raw)
        except Exception as error:
            # How much of it reached the log is not known, so the store must not go on behind it.
            failure = translate(error, f"writing to {self.path}")
            self._group.fail(failure)
            raise failure from error

    def _checkpoint(self, path: Path) -> None:
        if path.exists():
            raise WrongDirectory(
                f"{path} exists: a checkpoint is made in a new directory",
                metadata={"path": str(path)},
            )
        try:
            path.mkdir(parents=True, mode=0o700)
            # The driver holds the interpreter while it makes one: what is in memory is written to files before.
            self._database.write_out()
            self._database.checkpoint(path / "db")
            write_format(path, schema=self._directory.schema, version=self._directory.version)
            durable.sync_directory(path.parent)
        except Exception as error:
            raise translate(error, f"making the checkpoint {path}") from error


def _heeded(commit: asyncio.Future[None]) -> None:
    """Nobody waits for it; whatever is asked of the store afterwards fails as it did."""
    if not commit.cancelled():
        commit.exception()
