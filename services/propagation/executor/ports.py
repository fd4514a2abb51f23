"""What the executor asks of the other services and of caches, so that a test can stand in for each."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from libs.purge.client import Purge, PurgeFailed
from libs.render.types import Document
from wellspring.propagation.v1 import work_pb2


class Work(Protocol):
    """The engine's work interface; raises the SDK's errors."""

    async def lease(self, request: work_pb2.LeaseRequest) -> work_pb2.LeaseResponse: ...

    async def complete(self, request: work_pb2.CompleteRequest) -> work_pb2.CompleteResponse: ...

    async def extend(self, request: work_pb2.ExtendRequest) -> work_pb2.ExtendResponse: ...

    async def views(self) -> work_pb2.GetViewsResponse: ...


class Output(NamedTuple):
    """A rendered page on its way to the store; body None: the page is gone."""

    record: bytes
    body: bytes | None
    content_type: str
    tags: tuple[str, ...]


class Stored(NamedTuple):
    """A page as it lies in the store, and the rendered version that it was put with."""

    body: bytes
    content_type: str
    tags: tuple[str, ...]
    version: bytes


class Documents(Protocol):
    """The store, as far as rendering needs it. Raises the SDK's errors."""

    async def fetch(self, namespace: str, records: Sequence[bytes], *, strong: bool = False) -> list[Document | None]:
        """The newest documents, in order; `strong`: as all copies together have them."""

    async def stored(self, namespace: str, item_key: bytes, records: Sequence[bytes]) -> list[Stored | None]:
        """The outputs that lie in these records, in order."""

    async def put(self, namespace: str, item_key: bytes, outputs: Sequence[Output], version: bytes) -> list[str | None]:
        """Stores each over whatever is older than `version`; in order None, or why it could not be."""


class Caches(Protocol):
    """Every cache of this data centre, inner before outer (libs.purge.caches.Caches)."""

    async def purge(self, purges: Sequence[Purge]) -> dict[int, PurgeFailed]:
        """By index, those that not every cache has acknowledged, and why."""
