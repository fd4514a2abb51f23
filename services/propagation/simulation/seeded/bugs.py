"""Deliberate bugs, for the tests of the simulation: each is planted into a world before it runs.

Those of an executor sit in its ports, so that they stay where they are whatever becomes of the worker; those of the
engine replace one function of the domain while the world runs.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from libs.purge.client import Purge, PurgeFailed
from services.propagation.domain import completion, failures
from services.propagation.domain.shard import Step
from services.propagation.domain.views import RetryPolicy
from services.propagation.executor.hashing import output_hash
from services.propagation.executor.ports import Output
from services.propagation.simulation.seeded import late_log
from services.propagation.simulation.seeded.executors import CachesPort, EnginePort, StorePort
from services.propagation.simulation.seeded.late_log import LateOwner
from services.propagation.simulation.seeded.log_world import LogWorld
from services.propagation.simulation.seeded.site import Versioned
from services.propagation.simulation.seeded.world import World
from services.propagation.store.interface import Held
from services.propagation.store.logged.records import Position
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed
from wellspring_client.errors import Unavailable


class Promised:
    """Effects that a broken executor has promised and not yet had; by process."""

    def __init__(self) -> None:
        self.of: dict[Any, list[Callable[[], Any]]] = {}

    def add(self, process: object, effect: Callable[[], Any]) -> None:
        """For later."""
        self.of.setdefault(process, []).append(effect)

    async def keep(self, process: object) -> None:
        """Has them now."""
        for effect in self.of.pop(process, []):
            await effect()


def mark_before_effect(world: World) -> None:
    """Reports a page as done first, stores and purges it then."""
    promised = Promised()

    class Engine(EnginePort):
        async def complete(self, request: work_pb2.CompleteRequest) -> work_pb2.CompleteResponse:
            answer = await super().complete(request)
            await promised.keep(self.process)
            return answer

    class Store(StorePort):
        async def put(
            self, namespace: str, item_key: bytes, outputs: Sequence[Output], version: bytes
        ) -> list[str | None]:
            real = super().put
            promised.add(self.process, lambda: real(namespace, item_key, outputs, version))
            return [None for _ in outputs]

    class Caches(CachesPort):
        async def purge(self, purges: Sequence[Purge]) -> dict[int, PurgeFailed]:
            real = super().purge
            promised.add(self.process, lambda: real(purges))
            return {}

    world.engine_port, world.store_port, world.caches_port = Engine, Store, Caches


def purge_before_store(world: World) -> None:
    """Purges first and without a minimum, as a cache that cannot compare versions is purged; stores then."""
    promised = Promised()

    class Store(StorePort):
        async def put(
            self, namespace: str, item_key: bytes, outputs: Sequence[Output], version: bytes
        ) -> list[str | None]:
            real = super().put
            promised.add((self.process, version), lambda: real(namespace, item_key, outputs, version))
            return [None for _ in outputs]

    class Caches(CachesPort):
        async def purge(self, purges: Sequence[Purge]) -> dict[int, PurgeFailed]:
            failed = await super().purge(purges)
            try:
                await promised.keep((self.process, purges[0].min_version if purges else b""))
            except Unavailable as error:
                return dict.fromkeys(range(len(purges)), PurgeFailed("store", error.message))
            return failed

    world.store_port, world.caches_port = Store, Caches


def cut_off_against_the_store(world: World) -> None:
    """Compares a page with what lies in the store, not with the last accepted completion."""

    class Engine(EnginePort):
        async def lease(self, request: work_pb2.LeaseRequest) -> work_pb2.LeaseResponse:
            answer = await super().lease(request)
            for batch in answer.batches:
                names = batch.names.decode().split("\0")
                pages = [world.site.pages.get((batch.view, name)) for name in names]
                batch.accepted_hashes = b"".join(_hash(page) for page in pages)
            return answer

    world.engine_port = Engine


def _hash(page: Versioned | None) -> bytes:
    return output_hash(page.value, "text/plain", ()) if page is not None else bytes(packed.HASH_BYTES)


def _forgetful_retry(step: Step, held: Held, policy: RetryPolicy, asked_s: float) -> None:
    """Instead of waiting for another attempt, the item is taken for rendered."""
    for root in step.shard.roots.values():
        for group in root.of_view(held.view):
            group.pending.discard(held.resource)
        step.touch(root)


class _StampedEarly(completion._Work):
    """A completion whose outputs changed when its lease began."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.changed_at:
            self.changed_at = self.lease.sequence


@contextmanager
def forget_a_retry() -> Iterator[None]:
    """A failed item is dropped instead of tried again."""
    with mock.patch.object(failures, "_retry", _forgetful_retry):
        yield


@contextmanager
def stamp_with_the_lease() -> Iterator[None]:
    """An output is said to have changed when its lease began, not when it was accepted."""
    with mock.patch.object(completion, "_Work", _StampedEarly):
        yield


def take_from_a_former_owner(world: LogWorld) -> None:
    """Brokers that take, and acknowledge, what an owner sends after the next one's word."""
    world.log_host.log.fencing = False


class _Hasty(LateOwner):
    """An owner that takes its commits for durable before the brokers have them."""

    def append(self, position: Position, records: Sequence[bytes]) -> "asyncio.Future[None]":
        future = super().append(position, records)
        if not future.done():
            future.set_result(None)
        return future


@contextmanager
def acknowledge_before_it_landed() -> Iterator[None]:
    """Commits are told as durable when they were sent."""
    with mock.patch.object(late_log, "LateOwner", _Hasty):
        yield
