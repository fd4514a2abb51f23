"""Reads a render's inputs: each document once for a batch, none older than the batch asks for."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from libs.render.types import Document
from services.propagation.executor.pages import SawOlder
from services.propagation.executor.ports import Documents

_Read = asyncio.Task[list[Document | None]]


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
        self._kept: dict[str, tuple[_Read, int]] = {}
        self._room = max_kept_bytes

    async def fetch(self, resources: Sequence[str]) -> dict[str, Document | None]:
        """The documents by resource, None where there is none. Raises SawOlder, and the store's errors."""
        own = [r for r in dict.fromkeys(resources) if r not in self._kept and r.startswith(self._prefix)]
        if own:
            # One read for all of them; who asks for one of them meanwhile waits for the same read.
            read = asyncio.ensure_future(self._read(own))
            read.add_done_callback(partial(self._ended, own))
            self._kept.update((resource, (read, at)) for at, resource in enumerate(own))
        # Held here as well: another render may let go of one while this one waits.
        places = {resource: self._kept.get(resource) for resource in resources}
        found: dict[str, Document | None] = {}
        for resource, place in places.items():
            document = (await asyncio.shield(place[0]))[place[1]] if place is not None else None
            minimum = self._minimums.get(resource)
            if minimum is not None and document is not None and document.version < minimum:
                self._kept.pop(resource, None)
                raise SawOlder(resource)
            found[resource] = document
        return found

    async def _read(self, resources: Sequence[str]) -> list[Document | None]:
        records = [r[len(self._prefix) :].encode() for r in resources]
        documents = list(await self._documents.fetch(self._namespace, records))
        # A copy that lags has not yet what was just made: that it is gone only the store as a whole can say.
        doubted = [at for at, one in enumerate(documents) if one is None and resources[at] in self._minimums]
        if doubted:
            newest = await self._documents.fetch(self._namespace, [records[at] for at in doubted], strong=True)
            for at, document in zip(doubted, newest, strict=True):
                documents[at] = document
        return documents

    def _ended(self, resources: Sequence[str], read: _Read) -> None:
        """Keeps no more than the budget, and nothing of a read that failed: who needs it later reads it again."""
        failed = read.cancelled() or read.exception() is not None
        for at, resource in enumerate(resources):
            document = None if failed else read.result()[at]
            size = len(document.value) if document is not None else 0
            if failed or size > self._room:
                self._kept.pop(resource, None)
            else:
                self._room -= size
