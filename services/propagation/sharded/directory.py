"""The directory of a shard's store on this machine: which log it belongs to, and how it is made anew."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

from libs.kafka.errors import TopicUnfit
from services.propagation.sharded.topic import LogTopic
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.logged.place import KIND
from services.propagation.store.logged.store import NumberedStore

_TOPIC = b"topic"

Open = Callable[[Path], EmbeddedStore]


class ShardDirectory:
    """`path` is a directory of the store, or will be."""

    def __init__(self, path: Path, open_store: Open, topic: LogTopic) -> None:
        self._path = path
        self._open = open_store
        self._topic = topic

    async def open(self) -> EmbeddedStore:
        """The store. Raises TopicUnfit when it belongs to another log, and what the store raises."""
        # One that was being removed when the process was killed.
        shutil.rmtree(self._removed, ignore_errors=True)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = self._open(self._path)
        try:
            await self._check(store)
        except BaseException:
            await store.close()
            raise
        return store

    async def renew(self, store: EmbeddedStore) -> EmbeddedStore:
        """Removes the store and opens an empty one."""
        await store.close()
        shutil.rmtree(self._removed, ignore_errors=True)
        self._path.rename(self._removed)
        return await self.open()

    @property
    def _removed(self) -> Path:
        return self._path.with_name(self._path.name + ".removed")

    async def _check(self, store: EmbeddedStore) -> None:
        noted = store.get_record(KIND, _TOPIC)
        if noted is None:
            if store.resource_count:
                raise TopicUnfit(
                    f"{self._path} holds an engine that has no log in Kafka: it cannot become a shard; name an empty"
                    " directory"
                )
            commit = cast("NumberedStore", store).begin()
            commit.put_record(KIND, _TOPIC, self._topic.identity)
            await cast("NumberedStore", store).write(commit)
        elif noted != self._topic.identity:
            raise TopicUnfit(
                f"{self._path} belongs to another log than the topic {self._topic.name} is now: it was deleted and made"
                " again, or is of another cluster. If the new one is meant, remove the directory"
            )
