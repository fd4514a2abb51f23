"""Outputs of other shards that dependents here name: their shards know of the interest, durably, before any edge on
them is written.

An input that has a number here was asked for before: it gets one by the edge that came after, or by what was told.
"""

import asyncio
from collections.abc import Iterable, Iterator

from google.protobuf.message import Message

from libs.paging.paging import PageTokens
from libs.rpc.call import Call
from services.propagation.domain import hearing, names
from services.propagation.domain.engine import Engine
from services.propagation.fleet.shards import Shards, whole
from services.propagation.fleet.telling import SERVICE
from services.propagation.servicer import PropagationServicer
from services.propagation.views.catalogue import Catalogue
from services.propagation.work_servicer import WorkServicer
from wellspring.propagation.v1 import propagation_pb2, shards_pb2, work_pb2

_OUTPUT = names.OUTPUT_PREFIX.encode()
_TOGETHER = 2_000
"""A shard takes so many in some milliseconds."""


class Interests:
    """Of the shard of `engine`."""

    def __init__(self, engine: Engine, shards: Shards) -> None:
        self._shard = engine.shard
        self._shards = shards

    async def register(self, resources: Iterable[str], call: Call) -> None:
        """Ends when each output among them is known to be wanted here. Raises ShardAway, and what its shard raises."""
        new = self._unknown(resources)
        while new:
            requests: dict[int, Message] = {}
            asked: dict[int, list[str]] = {}
            for shard, outputs in new.items():
                asked[shard], new[shard] = outputs[:_TOGETHER], outputs[_TOGETHER:]
                requests[shard] = shards_pb2.RegisterInterestRequest(
                    shard=self._shard.settings.part.number, outputs=asked[shard]
                )
            answers = whole(await self._shards.ask_each(SERVICE, "RegisterInterest", requests, call))
            found = [
                (name.encode(), version)
                for shard, answer in zip(sorted(asked), answers, strict=True)
                for name, version in zip(asked[shard], answer.versions, strict=True)
            ]
            hearing.note_present(self._shard, found)
            new = {shard: outputs for shard, outputs in new.items() if outputs}

    def _unknown(self, resources: Iterable[str]) -> dict[int, list[str]]:
        """By shard, outputs that were not asked for yet; names that none may have are refused elsewhere."""
        part, store = self._shard.settings.part, self._shard.store
        foreign = [
            name
            for name in dict.fromkeys(resources)
            if names.output_parts(name) is not None and names.resource_problem(name) is None and not part.has(name)
        ]
        new: dict[int, list[str]] = {}
        numbers = store.find_resources([name.encode() for name in foreign]).tolist() if foreign else []
        for name, number in zip(foreign, numbers, strict=True):
            if number < 0 or store.find_input(number, names.CONTENT) < 0:
                new.setdefault(self._shards.of(name), []).append(name)
        return new


class InterestedPropagation(PropagationServicer):
    """Of a shard among several."""

    def __init__(self, engine: Engine, tokens: PageTokens, interests: Interests) -> None:
        super().__init__(engine, tokens)
        self._interests = interests

    async def DeclareDependencies(
        self, request: propagation_pb2.DeclareDependenciesRequest, call: Call
    ) -> propagation_pb2.DeclareDependenciesResponse:
        """Once what it names is told here."""
        await self._interests.register(_declared(request), call)
        return await super().DeclareDependencies(request, call)


class InterestedWork(WorkServicer):
    """Of a shard among several."""

    def __init__(
        self, engine: Engine, catalogue: Catalogue, interests: Interests, max_batch: int, stopping: asyncio.Event
    ) -> None:
        super().__init__(engine, catalogue, max_batch, stopping)
        self._interests = interests

    async def Complete(self, request: work_pb2.CompleteRequest, call: Call) -> work_pb2.CompleteResponse:
        """Once what it names is told here."""
        await self._interests.register(_completed(request), call)
        return await super().Complete(request, call)


def _declared(request: propagation_pb2.DeclareDependenciesRequest) -> Iterator[str]:
    for packed in request.packed:
        yield from _packed(packed)
    for one in request.declarations:
        yield from (dependency.resource for dependency in one.dependencies)


def _completed(request: work_pb2.CompleteRequest) -> Iterator[str]:
    for completion in request.completions:
        yield from _packed(completion.packed_dependencies)
        for one in completion.dependencies:
            yield from (dependency.resource for dependency in one.dependencies)


def _packed(packed: propagation_pb2.PackedDeclarations) -> Iterator[str]:
    if packed.inputs.startswith(_OUTPUT) or b"\0" + _OUTPUT in packed.inputs:
        for entry in packed.inputs.split(b"\0"):
            if entry.startswith(_OUTPUT):
                yield entry.partition(b"\t")[0].decode(errors="replace")
