"""What the store of this data centre has of the pages that were rendered in another one."""

from collections.abc import Sequence
from typing import Protocol

from services.propagation.executor.templates import EffectTemplates
from wellspring.propagation.v1 import work_pb2
from wellspring.storage.v1 import storage_pb2
from wellspring_client.calls import Caller
from wellspring_client.storage_reads import NamespaceReads

MOST = 1_000
"""Pages that are asked for at once."""


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
        consistency = storage_pb2.CONSISTENCY_STRONG_GLOBAL if strong else storage_pb2.CONSISTENCY_UNSPECIFIED
        items = await NamespaceReads(self._caller, view.store.namespace).get_many(
            EffectTemplates(view).of(resources).records,
            view.store.item_key,
            consistency=consistency,
            omit_values=True,
        )
        return [item.version if item is not None else None for item in items]
