"""An engine's part in a fleet: it follows the logs of all shards, and leads those that the group gives it.

When more shards are wanted, each is sealed by whoever leads it: its log ends. An engine that has seen all logs to their
ends has nothing left to do here.

Shards come and go while it runs. One that the group gives to another engine, or whose log another one has taken, is
closed here and followed again; the others go on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import cast

from libs.errors.errors import Unavailable, WellspringError
from libs.kafka.errors import BrokersAway, DeliveryUnknown, Fenced
from libs.kafka.membership import Membership
from libs.kafka.options import Options
from libs.telemetry.logs import fields
from services.propagation.domain import generation
from services.propagation.domain.generation import Generation, Seal
from services.propagation.fleet.local import LocalShard
from services.propagation.fleet.owners import member_name
from services.propagation.fleet.shards import Shards
from services.propagation.sharded.checkpoints import keep_checkpoints
from services.propagation.sharded.directory import ShardDirectory
from services.propagation.sharded.following import Following
from services.propagation.sharded.taking_over import TakenOver, take_over
from services.propagation.store.interface import Store
from services.propagation.store.logged.store import LoggedStore

log = logging.getLogger(__name__)

_AGAIN_S = 1.0

Build = Callable[[Store, int, Callable[[], None]], Awaitable[LocalShard]]
"""(store, shard, the log's check) to the shard as it is led."""
_LOST = (Fenced, DeliveryUnknown, BrokersAway)


class Hosting:
    """`open`, which reads all logs to their ends; then `run`, with the address at which the others reach this one."""

    def __init__(
        self,
        options: Options,
        topic: str,
        group: str,
        session_s: float,
        directories: dict[int, ShardDirectory],
        shards: Shards,
        build: Build,
    ) -> None:
        self._options = options
        self._topic = topic
        self._group = group
        self._session_s = session_s
        self._directories = directories
        self._shards = shards
        self._build = build
        self._following: dict[int, Following] = {}
        self.sealed: set[int] = set()
        """Shards whose logs have ended, as the logs say."""
        self._membership: Membership | None = None

    async def open(self) -> None:
        """Brings the stores up to the logs: an engine that is far behind would be of no use as a leader.

        Raises BrokersAway, AccessRefused, TopicUnfit, LogDamaged, and what the stores raise.
        """
        try:
            for number in self._directories:
                await self._follow(number)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Closes the stores that are followed."""
        for following in self._following.values():
            await following.close()
        self._following.clear()

    async def check(self) -> None:
        """Raises why this engine leads nothing, and will not."""
        if self._membership is None:
            raise Unavailable("this engine has not joined its group yet")
        if self._membership.refusal is not None:
            raise self._membership.refusal

    async def run(self, address: str) -> None:
        """Leads what it is given, until all logs have ended. Raises when the brokers refuse it, or a log is damaged."""
        options = replace(self._options, client_id=member_name(address))
        membership = self._membership = Membership(options, self._group, self._topic, self._session_s)
        try:
            async with asyncio.TaskGroup() as group:
                for number in self._directories:
                    group.create_task(self._keep(number, membership))
        finally:
            await membership.close()

    async def _follow(self, number: int) -> Following:
        partition = self._topic, number
        following = await Following.open(self._options, partition, self._directories[number])
        self._following[number] = following
        await following.read_to_end()
        return following

    async def _keep(self, number: int, membership: Membership) -> None:
        """Follows, leads, and follows again."""
        while True:
            following = self._following.get(number) or await self._again(number)
            await following.follow(partial(self._has_news, number, membership))
            if membership.refusal is not None:
                raise membership.refusal
            try:
                if await self._is_sealed(number, following):
                    return
                if number not in membership.own:
                    continue
                taken = await take_over(self._options, (self._topic, number), following)
            except _LOST as error:
                log.warning("a shard cannot be taken over now", extra=fields(shard=number, why=error.message))
                await asyncio.sleep(_AGAIN_S)
                continue
            del self._following[number]
            await self._lead(number, taken, membership)

    def _has_news(self, number: int, membership: Membership) -> bool:
        """Whether there is anything to do but to follow the log."""
        if number in membership.own or membership.refusal is not None:
            return True
        return _seal_of(cast("Store", self._following[number].embedded)) is not None

    async def _is_sealed(self, number: int, following: Following) -> bool:
        """Whether the log has ended: the store may have a seal that its log has not."""
        if _seal_of(cast("Store", following.embedded)) is None:
            return False
        await following.catch_up()
        if _seal_of(cast("Store", following.embedded)) is None:
            return False
        self.sealed.add(number)
        return True

    def wanted(self) -> Generation | None:
        """The generation that is to follow, as any of the logs says."""
        stores = [cast("Store", following.embedded) for following in self._following.values()]
        stores += [shard.engine.shard.store for shard in self._shards.own.values()]
        for store in stores:
            with suppress(WellspringError):  # one that is made anew
                found = generation.wanted(store)
                if found is not None:
                    return found
        return None

    async def _seal(self, store: LoggedStore) -> None:
        """Ends the log once another generation is wanted."""
        while (follows := self.wanted()) is None:  # noqa: ASYNC110  another engine's log may say it
            await asyncio.sleep(_AGAIN_S)
        commit = store.begin()
        generation.put_seal(commit, Seal(follows, store.epoch))
        await store.end(commit)

    async def _again(self, number: int) -> Following:
        while True:
            try:
                return await self._follow(number)
            except BrokersAway:
                following = self._following.pop(number, None)
                if following is not None:
                    await following.close()
                await asyncio.sleep(_AGAIN_S)

    async def _lead(self, number: int, taken: TakenOver, membership: Membership) -> None:
        """Serves the shard until it is another engine's, or this one is to end."""
        store, embedded, shard_log = taken
        shard: LocalShard | None = None
        try:
            if _seal_of(cast("Store", store)) is not None:
                return
            shard = await self._build(cast("Store", store), number, store.check)
            self._shards.own[number] = shard
            self._shards.work.fire()
            checkpoints = keep_checkpoints(self._directories[number], embedded, shard_log)
            ended = [shard_log.lost(), membership.lost(number), shard.run(), embedded.tidy(), checkpoints]
            ended.append(self._seal(store))
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(one) for one in ended]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            _tell(number, tasks)
        except WellspringError as error:
            if not _is_lost(store):
                raise
            log.warning("a shard was lost", extra=fields(shard=number, why=error.message))
        finally:
            if shard is not None:
                del self._shards.own[number]
                await shard.drain()
            await store.close()


def _tell(number: int, tasks: "list[asyncio.Task[None]]") -> None:
    """Raises what ended the shard, unless the group did."""
    for task in tasks:
        error = task.exception() if task.done() and not task.cancelled() else None
        if error is not None:
            raise error
    log.info("a shard is given to another engine, or sealed", extra=fields(shard=number))


def _seal_of(store: Store) -> Seal | None:
    try:
        return generation.sealed(store)
    except WellspringError:  # it is made anew
        return None


def _is_lost(store: LoggedStore) -> bool:
    try:
        store.check()
    except WellspringError:
        return True
    return False
