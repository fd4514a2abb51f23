"""Keeps a follower for each bound namespace: looks for what was bound or unbound, every few seconds."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from random import Random

from libs.telemetry.logs import fields
from services.propagation.domain.engine import Engine
from services.propagation.intake.changes import Changes, EngineChanges
from services.propagation.intake.follower import Follower
from services.propagation.intake.state import FollowerState
from wellspring.storage.v1 import storage_admin_pb2
from wellspring_client.errors import WellspringError
from wellspring_client.storage_admin import Storage

log = logging.getLogger(__name__)


class Intake:
    """`only` names the namespaces to follow, none means all that are bound; `refresh_s` lies between two looks."""

    def __init__(
        self,
        engine: Engine,
        storage: Storage,
        rng: Random,
        *,
        only: Iterable[str] = (),
        refresh_s: float = 2.0,
        take_unbound: bool = False,
        changes: Callable[[], Changes] | None = None,
    ) -> None:
        """`changes` makes what takes those of one namespace; None: the engine does."""
        self._engine = engine
        self._changes = changes or partial(EngineChanges, engine)
        self._storage = storage
        self._rng = rng
        self._only = frozenset(only)
        self._refresh_s = refresh_s
        self._take_unbound = take_unbound
        self._followers: dict[str, tuple[bytes, Follower, asyncio.Task[None]]] = {}
        self._error = ""

    def states(self) -> list[FollowerState]:
        """Of each followed namespace; one without a name says that storage cannot be asked which are bound."""
        states = [follower.state for _, follower, _ in self._followers.values()]
        return states + ([FollowerState("", error=self._error)] if self._error else [])

    async def run(self) -> None:
        """Follows until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._look(tasks)
                await asyncio.sleep(self._refresh_s)

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        try:
            bound = {found.name: found async for found in self._storage.list_namespaces(bound_only=True)}
        except WellspringError as error:
            if not self._error:
                log.warning("storage cannot be asked which namespaces are bound", extra=fields(reason=error.reason))
            self._error = f"{type(error).__name__}: {error}"
            return
        self._error = ""
        wanted = {name: found for name, found in bound.items() if not self._only or name in self._only}
        for name in list(self._followers):
            binding, _, task = self._followers[name]
            if name not in wanted or binding != _known(wanted[name]):
                task.cancel()
                del self._followers[name]
        for name, found in wanted.items():
            if name not in self._followers:
                follower = Follower(
                    self._engine,
                    self._changes(),
                    self._storage.namespace(name),
                    found.binding,
                    self._rng,
                    take_unbound=self._take_unbound,
                )
                self._followers[name] = (_known(found), follower, tasks.create_task(follower.run()))
                log.info("following a bound namespace", extra=fields(namespace=name))


def _known(namespace: storage_admin_pb2.Namespace) -> bytes:
    return namespace.binding.SerializeToString(deterministic=True)
