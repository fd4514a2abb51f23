"""The ordered key-value store that the one-machine backend stands on: what it uses of ``libs.embedded``, as protocols.

``store/memory.py`` has the same in memory, for tests and simulation.
"""

from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from libs.errors.errors import WellspringError


class Family(Protocol):
    """One key space; reads return at once and see every batch submitted before."""

    def get(self, key: bytes) -> bytes | None: ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...

    def scan(
        self,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]: ...

    def scan_keys(
        self,
        prefix: bytes | None = None,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[bytes]: ...

    def first(
        self, prefix: bytes | None = None, *, start: bytes | None = None, end: bytes | None = None
    ) -> tuple[bytes, bytes] | None: ...

    def last(
        self, prefix: bytes | None = None, *, start: bytes | None = None, end: bytes | None = None
    ) -> tuple[bytes, bytes] | None: ...


class Batch(Protocol):
    """Changes that become true together. ``family`` is one of the same store's. ``frees``: they make room, and may be
    written when puts no longer are."""

    frees: bool

    def __len__(self) -> int: ...

    def put(self, family: Any, key: bytes, value: bytes) -> None: ...

    def put_many(self, family: Any, items: Iterable[tuple[bytes, bytes]]) -> None: ...

    def delete(self, family: Any, key: bytes) -> None: ...

    def delete_range(self, family: Any, start: bytes, end: bytes) -> None: ...


class Snapshot(Protocol):
    """Families as they were at one moment; one read of a family at a time."""

    def get(self, family: Any, key: bytes) -> bytes | None: ...

    def scan(self, family: Any, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]: ...

    def close(self) -> None: ...


class Kv(Protocol):
    """The store: between a read and ``submit`` without an ``await`` nothing else happens."""

    @property
    def failure(self) -> WellspringError | None: ...

    def family(self, name: str) -> Family: ...

    def batch(self) -> Any:
        """An empty ``Batch``; Any, because each store takes back only its own."""

    def submit(self, batch: Any) -> Awaitable[None]:
        """Applies the batch now; awaiting ends when it is durable."""

    async def durable(self) -> None:
        """Waits until everything applied so far is durable."""

    def snapshot(self, *names: str) -> Any:
        """A ``Snapshot`` of the families named, as they are now. Close it: it pins what is removed meanwhile."""

    def close(self) -> None: ...
