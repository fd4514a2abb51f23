"""A shard tells each other one of outputs that changed and that are wanted there, in order, until it has taken them."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

from libs.errors.errors import FailedPrecondition, NotFound, WellspringError
from libs.telemetry.logs import fields
from services.propagation import messages
from services.propagation.domain.engine import Engine
from services.propagation.domain.interest import Untold
from services.propagation.domain.names import output_name
from services.propagation.domain.records import RootRecord, State, read_root
from services.propagation.fleet.calls import own_call
from services.propagation.fleet.ids import change_told
from services.propagation.fleet.shards import Shards
from services.propagation.store.numbers import to_numbers
from wellspring.propagation.v1 import propagation_pb2, shards_pb2

log = logging.getLogger(__name__)

SHARDS = shards_pb2.DESCRIPTOR.services_by_name["PropagationShards"]
SERVICE = SHARDS.name
_TOGETHER = 5_000
"""Outputs told in one call, or those of one record."""
_PATIENCE_S = 30.0
_LOOK_S = 1.0
_AGAIN_S = 0.2
_CONTROLS: dict[State, tuple[str, type[Any]]] = {
    State.ACTIVE: ("Resume", propagation_pb2.ResumeRequest),
    State.PAUSED: ("Pause", propagation_pb2.PauseRequest),
    State.CANCELLED: ("Cancel", propagation_pb2.CancelRequest),
}


class Telling:
    """Of the shard of `engine`."""

    def __init__(self, engine: Engine, shards: Shards) -> None:
        self._engine = engine
        self._shard = engine.shard
        self._shards = shards
        self._unsure: dict[int, int] = {}
        """By shard, up to which number it may have taken what was told, of roots as they are no more."""

    async def run(self) -> None:
        """Tells until it is cancelled; what cannot be told now is told later."""
        own = self._shard.settings.part.number
        # A former owner may have told all that is there, and not have lived to say what operators did meanwhile.
        self._unsure = dict.fromkeys(range(self._shards.count), self._shard.sequence.last)
        async with asyncio.TaskGroup() as group:
            for number in range(self._shards.count):
                if number != own:
                    group.create_task(self._tell_always(number))

    async def _tell_always(self, number: int) -> None:
        failing = False
        while True:
            if not self._shard.interest.waiting.get(number):
                await self._shard.signals.news.wait(_LOOK_S)
                continue
            try:
                await self._tell(number)
                failing = False
            except WellspringError as error:
                if not failing:
                    log.warning("a shard cannot be told of outputs now", extra=fields(told=number, why=error.message))
                failing = True
                await asyncio.sleep(_AGAIN_S)

    async def _tell(self, number: int) -> None:
        """Some of it, oldest first. Raises what the other shard raises, and the engine's own store."""
        batch: list[Untold] = []
        count = 0
        for untold in self._shard.interest.untold(number):
            count += len(untold.items)
            if batch and count > _TOGETHER:
                break
            batch.append(untold)
        await self._engine.durable()  # a crash must not take back what another shard goes on from
        states = self._states(batch) if batch[0].number > self._unsure[number] else {}
        self._unsure[number] = max(self._unsure[number], batch[-1].number)
        request, call = self._request(batch), own_call(_PATIENCE_S)
        # One that is away is not waited for: what is told of roots must be as it is then.
        await self._shards.ask(number, SERVICE, "TellOutputs", request, call, patient=False)
        while (now := self._states(batch)) != states:
            for sequence, state in now.items():
                if state is not states.get(sequence):
                    await self._follow(number, sequence, state)
            states = now
        step = self._shard.step()
        for root in self._shard.interest.told(step.commit, number, batch[-1].number, self._shard.roots):
            step.touch(root)
        step.write()
        self._shard.signals.items.fire_all()

    def _states(self, batch: list[Untold]) -> dict[int, State]:
        """Of the roots that it names, by sequence."""
        records = {part.root: self._record(part.root) for untold in batch for part in untold.parts}
        return {sequence: record.state for sequence, record in records.items() if record is not None}

    async def _follow(self, number: int, sequence: int, state: State) -> None:
        """The other shard was told of the root as it had been before an operator changed it here, or may have been."""
        record = self._record(sequence)
        made = _CONTROLS.get(state)
        if record is None or made is None:
            return
        method, request = made
        change_id = change_told(self._shard.settings.part.number, record.change.id)
        asked = request(id=change_id)
        if state is not State.ACTIVE:
            asked.reason = record.reason
        with suppress(FailedPrecondition, NotFound):  # nothing of it goes on there
            await self._shards.ask(number, "Propagation", method, asked, own_call(_PATIENCE_S), patient=False)

    def _record(self, sequence: int) -> RootRecord | None:
        root = self._shard.roots.get(sequence)
        return root.record if root is not None else read_root(self._shard.store, sequence)

    def _request(self, batch: list[Untold]) -> shards_pb2.TellOutputsRequest:
        shard = self._shard
        request = shards_pb2.TellOutputsRequest(shard=shard.settings.part.number)
        places: dict[int, int | None] = {}
        for untold in batch:
            numbers = to_numbers(untold.items)
            view = next(name for name, number in shard.store.views.items() if number == untold.view)
            told = request.told.add(
                number=untold.number,
                version=shard.sequence.version(untold.lease),
                outputs=[output_name(view, name.decode()) for name in shard.store.resource_names(numbers)],
            )
            for part in untold.parts:
                if part.root not in places:
                    places[part.root] = self._put_root(request, part.root)
                root = places[part.root]
                if root is not None:
                    outputs = [untold.items.rank(item) - 1 for item in part.items]
                    told.parts.add(root=root, level=part.level, outputs=outputs)
        return request

    def _put_root(self, request: shards_pb2.TellOutputsRequest, sequence: int) -> int | None:
        """Its place in the request; None for one that was cancelled: nothing is rendered for it any more."""
        shard, record = self._shard, self._record(sequence)
        if record is None or record.state is State.CANCELLED:
            return None
        change = messages.change_message(record.change)
        change.id = change_told(shard.settings.part.number, change.id)
        request.roots.add(
            change=change,
            accepted=record.change.resource != "" and not record.by_engine,
            paused=record.state is State.PAUSED,
            reason=record.reason,
            lane=record.lane,
            weight=record.weight,
        )
        return len(request.roots) - 1
