"""The directory of a shard's store on this machine: which log it belongs to, and how it is made anew.

Beside it lies a checkpoint: the store as it was some time ago, of which everything is in the log. A store that has what
the log has not is replaced by it. A store that is missing, or of no use without a checkpoint, begins with a snapshot,
where there are any.
"""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

from libs.embedded.failures import translate
from libs.kafka.errors import TopicUnfit
from services.propagation.sharded.snapshots.shelf import ShelfAway
from services.propagation.sharded.snapshots.snapshots import Prove, Snapshots
from services.propagation.sharded.threads import to_its_end
from services.propagation.sharded.topic import LogTopic
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.logged.log import CommitLog
from services.propagation.store.logged.place import KIND
from services.propagation.store.logged.store import NumberedStore

log = logging.getLogger(__name__)

TOPIC = b"topic"
"""Key of the identity of the log's topic, in the store."""

Open = Callable[[Path], EmbeddedStore]
Origin = Callable[[Path], Awaitable[bool]]
"""Makes a store's directory; whether it could. Raises what the logs and the stores raise."""


class ShardDirectory:
    """`path` is a directory of the store, or will be."""

    def __init__(
        self,
        path: Path,
        open_store: Open,
        topic: LogTopic,
        snapshots: Snapshots | None = None,
        origin: Origin | None = None,
    ) -> None:
        """`origin` makes the store that the log begins with, where that is not an empty one."""
        self._origin = origin
        self._path = path
        self._open = open_store
        self._topic = topic
        self.snapshots = snapshots
        self.away: ShelfAway | None = None
        """Why it was not known which snapshots there are, when the store was opened."""

    async def open(self, tried: set[str] | None = None) -> EmbeddedStore:
        """The store. A missing one begins with a snapshot that is not in `tried`, which gets its name.

        Raises TopicUnfit when it, or the snapshots, belong to another log, ShelfRefused, and what the store raises.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._path.exists():
            await self._put_in_place(set() if tried is None else tried)
        shutil.rmtree(self._removed, ignore_errors=True)
        store = self._open(self._path)
        try:
            await self._check(store)
        except BaseException:
            await store.close()
            raise
        return store

    async def renew(self, store: EmbeddedStore, tried: set[str]) -> EmbeddedStore:
        """Removes the store and opens its checkpoint, which is used up; without one the next snapshot, as `open`; at
        last an empty store."""
        await store.close()
        shutil.rmtree(self._removed, ignore_errors=True)
        self._path.rename(self._removed)
        return await self.open(tried)

    async def keep_snapshots(self, store: EmbeddedStore, prove: Prove, *, leads: bool) -> None:
        """For ever: see `Snapshots.keep`."""
        if self.snapshots is None:
            await asyncio.Event().wait()
        else:
            await self.snapshots.keep(store, self._copied, prove, leads=leads)

    async def keep_checkpoint(self, store: EmbeddedStore, commits: CommitLog) -> None:
        """Keeps the store as it is now, in place of the checkpoint before, once all of it is durable in its log.

        Raises what the store and the log raise; then the one before stays.
        """
        await to_its_end(asyncio.to_thread(shutil.rmtree, self._unproven, ignore_errors=True))
        await to_its_end(store.database.checkpoint(self._unproven))
        await commits.barrier()
        try:
            await to_its_end(asyncio.to_thread(self._replace_checkpoint))
        except OSError as error:
            raise translate(error, f"keeping the checkpoint {self._checkpoint}") from error

    async def _put_in_place(self, tried: set[str]) -> None:
        """What is opened where no store is: the checkpoint of one that was of no use, a snapshot, nothing."""
        renewing = self._removed.exists()
        for kept in (self._checkpoint, self._former):
            if renewing and kept.exists():
                kept.rename(self._path)
                return
            # Whoever removed the store wants it made from elsewhere.
            shutil.rmtree(kept, ignore_errors=True)
        self.away = None
        if await self._fetch(tried) or self._origin is not None and await self._origin(self._fetched):
            self._fetched.rename(self._path)

    async def _fetch(self, tried: set[str]) -> bool:
        if self.snapshots is None:
            return False
        try:
            return await self.snapshots.fetch(self._fetched, tried)
        except ShelfAway as error:
            log.warning("the shard's store is made without a snapshot: %s", error.message)
            self.away = error
            return False

    def _replace_checkpoint(self) -> None:
        shutil.rmtree(self._former, ignore_errors=True)
        if self._checkpoint.exists():
            self._checkpoint.rename(self._former)
        self._unproven.rename(self._checkpoint)
        shutil.rmtree(self._former, ignore_errors=True)

    @property
    def _removed(self) -> Path:
        return self._path.with_name(self._path.name + ".removed")

    @property
    def _checkpoint(self) -> Path:
        return self._path.with_name(self._path.name + ".checkpoint")

    @property
    def _former(self) -> Path:
        """The checkpoint while another takes its place."""
        return self._path.with_name(self._path.name + ".checkpoint.former")

    @property
    def _unproven(self) -> Path:
        """A checkpoint of which the log may not have everything."""
        return self._path.with_name(self._path.name + ".checkpoint.unproven")

    @property
    def _copied(self) -> Path:
        """A checkpoint of which a snapshot is made."""
        return self._path.with_name(self._path.name + ".snapshot")

    @property
    def _fetched(self) -> Path:
        """A snapshot that comes, whole or not."""
        return self._path.with_name(self._path.name + ".fetched")

    async def _check(self, store: EmbeddedStore) -> None:
        noted = store.get_record(KIND, TOPIC)
        if noted is None:
            if store.resource_count:
                raise TopicUnfit(
                    f"{self._path} holds an engine that has no log in Kafka: it cannot become a shard; name an empty"
                    " directory"
                )
            commit = cast("NumberedStore", store).begin()
            commit.put_record(KIND, TOPIC, self._topic.identity)
            await cast("NumberedStore", store).write(commit)
        elif noted != self._topic.identity:
            raise TopicUnfit(
                f"{self._path} belongs to another log than the topic {self._topic.name} is now: it was deleted and made"
                " again, or is of another cluster. If the new one is meant, remove the directory"
            )
