"""A shard that this process leads: its engine, and the contract's services over it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from prometheus_client.registry import Collector

from libs.errors.errors import ResourceExhausted, WellspringError
from libs.rpc.call import Call
from services.propagation.admin_servicer import AdminServicer
from services.propagation.domain.engine import Engine
from services.propagation.fleet.across import AcrossServicer
from services.propagation.fleet.errors import ShardNotHere
from services.propagation.servicer import PropagationServicer
from services.propagation.views.catalogue import Catalogue
from services.propagation.work_servicer import WorkServicer

_PATIENCE_S = 2.0
"""For calls under way when the shard is given up; what waits longer is ended."""


@dataclass(slots=True)
class LocalShard:
    """`background` runs, and `collectors` tell, as long as the shard is led.

    `stopping` is set when it is given up: waiting calls end. `check` raises why its log takes nothing more from here.
    """

    number: int
    engine: Engine
    catalogue: Catalogue
    propagation: PropagationServicer
    work: WorkServicer
    admin: AdminServicer
    across: AcrossServicer
    background: list[Callable[[], Awaitable[None]]]
    collectors: list[Collector]
    stopping: asyncio.Event
    check: Callable[[], None]
    # In order, and not a set: whose call is ended first must be the same in each run of a simulation.
    _calls: dict["asyncio.Task[Any]", None] = field(default_factory=dict)
    _ended: set["asyncio.Task[Any]"] = field(default_factory=set)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def servicer(self, service: str) -> Any:
        """By the service's name in the contract."""
        return {
            "Propagation": self.propagation,
            "PropagationWork": self.work,
            "PropagationAdmin": self.admin,
            "PropagationShards": self.across,
        }[service]

    async def ask(self, service: str, method: str, request: Message, call: Call) -> Any:
        """The shard's answer. Raises what its servicer raises, and ShardNotHere when it is given up meanwhile."""
        with self._under_way():
            try:
                answer = await getattr(self.servicer(service), method)(request, call)
            except WellspringError:
                self._check()
                raise
            # An answer may hold what was refused for the log's sake: whoever leads the shard now is to be asked.
            self._check()
            return answer

    async def stream(self, service: str, method: str, request: Message, call: Call) -> AsyncGenerator[Any, None]:
        """The shard's answers. Raises as `ask`."""
        async with aclosing(getattr(self.servicer(service), method)(request, call)) as answers:
            while True:
                with self._under_way():
                    try:
                        answer = await anext(answers)
                    except StopAsyncIteration:
                        return
                yield answer

    async def run(self) -> None:
        """The engine's own work, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.engine.run())
            for work in self.background:
                group.create_task(_of(work))

    async def drain(self) -> None:
        """Takes no more calls, and waits until those under way have ended."""
        self.stopping.set()
        self.engine.shard.signals.work.fire()
        loop = asyncio.get_running_loop()
        end_s = loop.time() + _PATIENCE_S
        while self._calls:
            self._idle.clear()
            try:
                async with asyncio.timeout_at(end_s):
                    await self._idle.wait()
            except TimeoutError:
                for task in [one for one in self._calls if one not in self._ended]:
                    self._ended.add(task)
                    task.cancel()
                end_s = loop.time() + _PATIENCE_S

    def _check(self) -> None:
        try:
            self.check()
        except ResourceExhausted:
            return  # full, and ours
        except WellspringError:
            raise ShardNotHere(f"this engine lost shard {self.number}") from None

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        if self.stopping.is_set():
            raise ShardNotHere(f"this engine does not lead shard {self.number} any more")
        task = asyncio.current_task()
        assert task is not None
        self._calls[task] = None
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._ended or task.uncancel() > 0:
                raise
            raise ShardNotHere(f"this engine does not lead shard {self.number} any more") from None
        finally:
            self._calls.pop(task, None)
            self._ended.discard(task)
            self._idle.set()


async def _of(work: Callable[[], Awaitable[None]]) -> None:
    await work()
