"""What the store of this data centre has of the pages that were rendered in another one."""

from collections.abc import Sequence
from typing import Protocol

from services.propagation.executor.templates import EffectTemplates
from wellspring.propagation.v1 import work_pb2
from wellspring.storage.v1 import storage_pb2
from wellspring_client.calls import Caller
from wellspring_client.errors import Unavailable

MOST = 1_000
"""Records that one request may ask for."""
_STORAGE = storage_pb2.DESCRIPTOR.services_by_name["Storage"]


class Replica(Protocol):
    """The store."""

    async def versions(
        self, view: work_pb2.View, resources: Sequence[str], *, strong: bool = False
    ) -> list[bytes | None]:
        """The version that each page lies here with, at most `MOST` of them; None where there is none. `strong`: in
        any data centre. Raises WellspringError."""


class GrpcReplica:
    """The storage service of this data centre."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def versions(
        self, view: work_pb2.View, resources: Sequence[str], *, strong: bool = False
    ) -> list[bytes | None]:
        """See Replica."""
        found: list[bytes | None] = []
        waiting = EffectTemplates(view).of(resources).records
        consistency = storage_pb2.CONSISTENCY_STRONG_GLOBAL if strong else storage_pb2.CONSISTENCY_UNSPECIFIED
        key = storage_pb2.Selection(keys=storage_pb2.Keys(keys=[view.store.item_key]))
        while waiting:
            asked = [
                storage_pb2.GetRequest(
                    namespace=view.store.namespace,
                    record=record,
                    selection=key,
                    consistency=consistency,
                    omit_values=True,
                )
                for record in waiting
            ]
            request = storage_pb2.BatchGetRequest(requests=asked)
            answer = await self._caller.unary(_STORAGE, "BatchGet", request, storage_pb2.BatchGetResponse, None)
            for result in answer.results:
                if result.status.code:
                    raise Unavailable(f"a result cannot be read: {result.status.message}", reason="RESULT_UNREADABLE")
                items = result.response.items
                found.append(items[0].version if items else None)
            waiting = waiting[len(answer.results) :]
        return found
