"""What the auditor asks of the engine, the store and the caches, so that a test can stand in for each."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from wellspring.propagation.v1 import work_pb2

NEVER = bytes(16)
"""The hash of an output that was never accepted."""


@dataclass(frozen=True, slots=True)
class Output:
    """What the engine believes of one output: hash and rendered version (16 bytes each) of its last accepted render.

    `state` is ListOutputs' byte: 0 settled, else bits of pending (1), dead letter (2), retry (4).
    """

    resource: str
    hash: bytes
    version: bytes
    state: int = 0


@dataclass(frozen=True, slots=True)
class OutputPage:
    """Some outputs of a view; `next_token` is empty at the end."""

    outputs: tuple[Output, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class ChangedOutput:
    """An output whose bytes changed, at a rendered version; `time_ns` is 0 when the engine did not say when."""

    view: str
    resource: str
    version: bytes
    hash: bytes
    time_ns: int = 0


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A stored page: its version, and the hashes that a render which left these bytes and tags may have had.

    None: that cannot be told from what is stored.
    """

    version: bytes
    hashes: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True)
class ScannedItem:
    """An item that a scan found."""

    record: bytes
    item_key: bytes


@dataclass(frozen=True, slots=True)
class ScanPage:
    """Some items of a namespace; a later scan goes on after them at `token`."""

    items: tuple[ScannedItem, ...]
    token: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A page to be read from the store: where it lies, and the tags that its view adds to the renderer's."""

    record: bytes
    view_tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """A cache's answer to a reader: its HTTP status (0: none came), and the page's version where it says one."""

    status: int
    version: bytes | None = None


class Engine(Protocol):
    """The propagation engine. Raises the SDK's errors."""

    async def views(self) -> Sequence[work_pb2.View]:
        """The views in force."""

    async def outputs(self, view: str, token: str, size: int) -> OutputPage:
        """At most `size` outputs of a view, from `token` on (empty: the first ones)."""

    def changes(self) -> AsyncGenerator[Sequence[ChangedOutput], None]:
        """Outputs as they change, from now on; an empty sequence now and then while nothing does."""

    async def knows(self, view: str, resource: str) -> bool:
        """Whether the engine rendered the output, will render it, or gave it up by name."""

    async def rerender(self, root: str, view: str, names: Sequence[str], reason: str) -> int:
        """Makes the outputs pending under a root of this id, to be published whatever their bytes; how many."""

    async def newest(self) -> bytes:
        """The rendered version of what it would lease now."""

    async def finished(self, root: str) -> bool:
        """Whether nothing of the root is left to do."""


class Pages(Protocol):
    """The store. Raises the SDK's errors."""

    async def fetch(
        self, namespace: str, item_key: bytes, wanted: Sequence[Wanted], *, strong: bool = False
    ) -> list[StoredPage | None]:
        """The pages in order, None where there is none; `strong`: as all data centres have them."""

    async def remove(self, namespace: str, item_key: bytes, record: bytes) -> None:
        """Deletes a page that was written by a plain put; renders that are newer than those before it come through."""

    def scan(self, namespace: str, item_keys: Sequence[bytes], token: str) -> AsyncIterator[ScanPage]:
        """The items under these keys of all records, from `token` on (empty: the first ones)."""


class Cache(Protocol):
    """One instance of a cache, as readers reach it."""

    @property
    def name(self) -> str:
        """The cache's name in the configuration."""

    @property
    def url(self) -> str:
        """http://host:port of this instance."""

    async def look(self, page: str) -> Seen:
        """The answer that a reader of a path (or of a whole URL) gets. Raises nothing: no answer is a status of 0."""

    async def purge(self, page: str, min_version: bytes) -> None:
        """Forgets what is older. Raises libs.purge.client.PurgeFailed."""
