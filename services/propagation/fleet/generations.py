"""The generations of shards, one after the other: when all logs of one have ended, the next one is gone on with."""

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from libs.config import wiring
from libs.kafka.errors import TopicUnfit
from libs.kafka.topics import Topics
from libs.kafka.waiting import when_there
from libs.telemetry.logs import fields
from services.propagation.domain.generation import FIRST, Generation, sealed
from services.propagation.fleet.building import Deployment, led
from services.propagation.fleet.hosting import Hosting
from services.propagation.fleet.local import LocalShard
from services.propagation.fleet.logs import Logs, ShardsLog
from services.propagation.fleet.owners import Owners
from services.propagation.fleet.parting import begin_part
from services.propagation.fleet.peers import Peers
from services.propagation.fleet.service import Front
from services.propagation.fleet.shards import Shards
from services.propagation.sharded.directory import TOPIC as TOPIC_KEY
from services.propagation.sharded.directory import Open, ShardDirectory
from services.propagation.sharded.following import Following
from services.propagation.sharded.opening import TOPIC, options_of
from services.propagation.sharded.snapshots.opening import SnapshotPlace
from services.propagation.sharded.snapshots.snapshots import Snapshots
from services.propagation.store.interface import Store
from services.propagation.store.logged.place import KIND
from services.propagation.store.logged.store import NumberedStore
from wellspring.config.v1 import propagation_pb2
from wellspring_client.channels import Tls

log = logging.getLogger(__name__)


class Generations:
    """`open`; then `run`, with `front` set; to be closed."""

    def __init__(
        self,
        config: propagation_pb2.ShardedPropagation,
        deployment: Deployment,
        open_store: Open,
        snapshots: SnapshotPlace | None,
        tls: Tls | None,
    ) -> None:
        """`snapshots` None: none are made, and none used; `tls` None: the other engines are called in the clear."""
        self._config = config
        self._deployment = deployment
        self._open_store = open_store
        self._place = snapshots
        self._tls = tls
        self._options = options_of(config.kafka)
        self._topics = Topics(self._options)
        name = config.kafka.topic_prefix + TOPIC
        self._logs = Logs(self._options, self._topics, name, config.kafka.replication)
        self._locks: dict[int, asyncio.Lock] = {}
        self._owners: Owners
        self._peers: Peers
        self._hosting: Hosting
        self.shards: Shards
        self.front: Front | None = None
        self.snapshots: dict[int, Snapshots] = {}
        """Of the present shards."""

    async def open(self) -> None:
        """Brings the stores of the present generation up to its logs.

        Raises BrokersAway, AccessRefused, TopicUnfit, LogDamaged, and what the stores raise.
        """
        present = await self._logs.present(self._config.shards)
        count = present.generation.shards
        if count != self._config.shards:
            log.warning(
                "there are %d shards, and backend.sharded.shards says %d: wellspring propagation shards grow adds some",
                count,
                self._config.shards,
            )
        await self._open(present)

    async def run(self, address: str) -> None:
        """Leads what it is given, of one generation after the other, until it is cancelled. Raises as `Hosting.run`."""
        while True:
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(self._owners.run())
                await self._hosting.run(address)
                looking.cancel()
            follows = self._hosting.wanted()
            assert follows is not None
            await self._turn(follows)

    async def _turn(self, follows: Generation) -> None:
        former, peers = self.shards, self._peers
        former.ended = True
        former.work.fire()
        await self._hosting.close()
        await when_there(lambda: self._opened(follows))
        if self.front is not None:
            self.front.turn_to(self.shards)
        await peers.close()
        log.info("the number of shards has grown", extra=fields(before=former.count, shards=follows.shards))

    async def _opened(self, follows: Generation) -> None:
        await self._open(await self._logs.made(follows))

    async def close(self) -> None:
        """Closes the stores that are followed, and the connections."""
        await self._hosting.close()
        await self._peers.close()

    async def check(self) -> None:
        """See `Hosting.check`."""
        await self._hosting.check()

    # -- what shards ask of it ----------------------------------------------------------------------------------------

    async def prepare(self, follows: Generation) -> None:
        """Makes the topic of the generation. Raises what `Logs.made` raises."""
        await self._logs.made(follows)

    def wanted(self) -> Generation | None:
        """What is under way, as far as it is known here."""
        return self._hosting.wanted()

    def sealed(self) -> list[int]:
        """The shards whose logs are known here to have ended."""
        return sorted(self._hosting.sealed)

    # -- one generation -----------------------------------------------------------------------------------------------

    async def _open(self, present: ShardsLog) -> None:
        generation, topic = present.generation, present.topic.name
        group = self._config.kafka.group
        if generation.number > FIRST:
            group = f"{group}.{generation.number}"
        owners = Owners(self._options, group, topic)
        peers = Peers(owners.address_of, owners.look_again, self._tls, generation.shards)
        shards = Shards(generation.shards, peers, generation.number, self)
        kept = self._snapshots(present)
        self.snapshots.clear()
        self.snapshots.update(kept)

        async def build(store: Store, number: int, check_log: Callable[[], None]) -> LocalShard:
            return await led(store, number, shards, self._deployment, check_log, kept.get(number))

        numbers = range(generation.shards)
        directories = {number: self._directory(present, number, kept.get(number)) for number in numbers}
        session_s = wiring.seconds(self._config.session_timeout)
        hosting = Hosting(self._options, topic, group, session_s, directories, shards, build)
        await hosting.open()
        self._owners, self._peers, self._hosting, self.shards = owners, peers, hosting, shards

    def _snapshots(self, of: ShardsLog) -> dict[int, Snapshots]:
        if self._place is None:
            return {}
        return {number: self._place.of(number, of.topic, self._topics) for number in range(of.generation.shards)}

    def _directory(self, of: ShardsLog, number: int, snapshots: Snapshots | None) -> ShardDirectory:
        place = Path(self._config.embedded.path)
        if of.generation.number == FIRST:
            return ShardDirectory(place / f"shard-{number}", self._open_store, of.topic, snapshots)

        async def origin(into: Path) -> bool:
            async with self._locks.setdefault(of.generation.number, asyncio.Lock()):
                return await self._divided(of, number, into)

        path = place / f"generation-{of.generation.number}" / f"shard-{number}"
        return ShardDirectory(path, self._open_store, of.topic, snapshots, origin)

    async def _divided(self, of: ShardsLog, number: int, into: Path) -> bool:
        """Makes the store that the shard's log begins with: the one of before as its log ended. False: it is gone."""
        before = await self._logs.find(of.generation.number - 1)
        if before is None:
            return False
        parent = number * before.generation.shards // of.generation.shards
        directory = self._directory(before, parent, self._snapshots(before).get(parent))
        following = await Following.open(self._options, (before.topic.name, parent), directory)
        try:
            await following.catch_up()
            if sealed(cast("Store", following.embedded)) is None:
                raise TopicUnfit(
                    f"the topic {of.topic.name} has records, and partition {parent} of {before.topic.name} goes on:"
                    " one of them is not of this fleet"
                )
            await asyncio.to_thread(shutil.rmtree, into, ignore_errors=True)
            await following.embedded.database.checkpoint(into)
        finally:
            await following.close()
        store: Any = self._open_store(into)
        try:
            commit = begin_part(cast("NumberedStore", store), before.generation.shards)
            commit.put_record(KIND, TOPIC_KEY, of.topic.identity)
            await store.write(commit)
        finally:
            await store.close()
        return True
