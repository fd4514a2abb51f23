"""Mutations of one call: those that are alike as one step, the others each as a step of its own, so many at once. That
of a call with one may share a step with others' (``puts.py``)."""

import asyncio
from collections.abc import Sequence
from typing import Final

from libs.errors.errors import WellspringError
from services.storage.cassandra.catalog import Catalog
from services.storage.cassandra.lww.likeness import alike
from services.storage.cassandra.partition import Place
from services.storage.cassandra.puts import Puts
from services.storage.cassandra.steps import Steps
from services.storage.cassandra.wanted import wanted
from services.storage.domain.errors import NamespaceNotFound
from services.storage.domain.model import Receipt
from services.storage.domain.namespace import Namespace
from services.storage.store.interface import Write

_TOGETHER: Final = 32
"""Records of one call that are written by steps of their own at once."""

Result = Receipt | WellspringError


class Mutations:
    """Runs them."""

    def __init__(self, catalog: Catalog, steps: Steps) -> None:
        self._catalog = catalog
        self._steps = steps
        self._puts = Puts(self._one, self._alike, steps.busy, steps.replicas)

    async def run(self, writes: Sequence[Write]) -> list[Result]:
        """As ``Store.mutate``."""
        if len(writes) == 1:
            return [await self._puts.run(writes[0])]
        writes = list(writes)  # some sequences make each of them anew
        results: dict[int, Result] = {}
        for step in alike(writes):
            found = await self._of_one_call([writes[index] for index in step])
            results.update((index, result) for index, result in zip(step, found, strict=True) if result is not None)
        by_place: dict[Place, list[int]] = {}
        for index, write in enumerate(writes):
            if index not in results:
                by_place.setdefault((write.namespace.number, write.command.record), []).append(index)
        room = asyncio.Semaphore(_TOGETHER)

        async def one_by_one(indexes: list[int]) -> None:
            async with room:
                for index in indexes:
                    results[index] = await self._one(writes[index])

        await asyncio.gather(*(one_by_one(indexes) for indexes in by_place.values()))
        return [results[index] for index in range(len(writes))]

    async def check_known(self, space: Namespace) -> None:
        """Raises NamespaceNotFound for a namespace that was purged while the request was under way."""
        if await self._catalog.known(space.number) is None:
            raise NamespaceNotFound.named(space.name)

    async def _one(self, write: Write) -> Result:
        space, command = write
        place = (space.number, command.record)
        try:
            await self.check_known(space)
            results = await self._steps.change(space, place, wanted(write), lambda store: store.mutate((write,)))
        except WellspringError as error:
            return error
        return results[0]

    async def _alike(self, writes: Sequence[Write]) -> Sequence[Result | None]:
        space = writes[0].namespace
        await self.check_known(space)
        return await self._steps.change_alike(space, writes)

    async def _of_one_call(self, writes: Sequence[Write]) -> Sequence[Result | None]:
        try:
            return await self._alike(writes)
        except WellspringError as error:
            return [error] * len(writes)
