"""Reads a render's inputs: each document once for a batch, none older than the batch asks for."""

import asyncio
from collections.abc import Mapping, Sequence

from libs.render.types import Document
from services.propagation.executor.pages import SawOlder
from services.propagation.executor.ports import Documents


class Sources:
    """The inputs of one batch.

    Documents are kept for the batch: all of them are read after its lease began, so any of its renders may use them.
    `minimums` are versions (16 bytes) by resource. A resource outside `prefix` is not the namespace's: it is missing.
    """

    def __init__(
        self, documents: Documents, namespace: str, prefix: str, minimums: Mapping[str, bytes], max_kept_bytes: int
    ) -> None:
        self._documents = documents
        self._namespace = namespace
        self._prefix = prefix
        self._minimums = minimums
        self._kept: dict[str, asyncio.Task[Document | None]] = {}
        self._room = max_kept_bytes

    async def fetch(self, resources: Sequence[str]) -> dict[str, Document | None]:
        """The documents by resource, None where there is none. Raises SawOlder, and the store's errors."""
        wanted = [r for r in dict.fromkeys(resources) if r not in self._kept]
        own = [r for r in wanted if r.startswith(self._prefix)]
        if own:
            # One read for all of them; who asks for one of them meanwhile waits for the same read.
            read = asyncio.ensure_future(self._read(own))
            for index, resource in enumerate(own):
                self._kept[resource] = asyncio.ensure_future(self._pick(read, index))
        # Held here as well: another render may let go of one while this one waits.
        tasks = {resource: self._kept.get(resource) for resource in resources}
        found: dict[str, Document | None] = {}
        for resource, task in tasks.items():
            document = await asyncio.shield(task) if task is not None else None
            minimum = self._minimums.get(resource)
            if minimum is not None and document is not None and document.version < minimum:
                self._kept.pop(resource, None)
                raise SawOlder(resource)
            found[resource] = document
        self._trim(own, found)
        return found

    async def _read(self, resources: Sequence[str]) -> list[Document | None]:
        records = [r[len(self._prefix) :].encode() for r in resources]
        return await self._documents.fetch(self._namespace, records)

    async def _pick(self, read: "asyncio.Future[list[Document | None]]", index: int) -> Document | None:
        return (await asyncio.shield(read))[index]

    def _trim(self, own: Sequence[str], found: Mapping[str, Document | None]) -> None:
        """Keeps no more than the budget: what does not fit is read again by whoever needs it."""
        for resource in own:
            document = found[resource]
            size = len(document.value) if document is not None else 0
            if size > self._room:
                self._kept.pop(resource, None)
            else:
                self._room -= size
