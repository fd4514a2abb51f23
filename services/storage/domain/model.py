"""The words of a request, as plain values: tokens, conditions, selections, mutations, receipts.

Times are whole microseconds since 1970 (``_us``); 0 means none. Keys and versions are bytes and compare bytewise.
"""

import enum
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

NO_VERSION: Final = b""
"""The version of nothing: below every other."""


class Mode(enum.Enum):
    """How the writes of a namespace are ordered: by the token's time, or by the store."""

    LWW = "lww"
    CAS = "cas"


class Outcome(enum.Enum):
    """What became of a mutation."""

    APPLIED = 1
    REPEATED = 2
    SUPERSEDED = 3
    DRY_RUN = 4


class WriteToken(NamedTuple):
    """The identity of a mutation: when its caller made it and 16 random bytes."""

    time_us: int
    nonce: bytes


class ConditionKind(enum.Enum):
    """What a condition compares."""

    ABSENT = "absent"
    ETAG = "etag"
    OLDER_THAN = "older_than"


class Condition(NamedTuple):
    """What must hold. ``operand``: nothing for ABSENT, the version of an etag, or the version of OLDER_THAN."""

    kind: ConditionKind
    operand: bytes = b""


class Selection(NamedTuple):
    """Which items of a record: the sorted ``keys``, or when None those in [start, end); ``end`` None is without end."""

    keys: tuple[bytes, ...] | None = None
    start: bytes = b""
    end: bytes | None = None
    reverse: bool = False

    @property
    def everything(self) -> bool:
        """Whether it selects the whole record."""
        return self.keys is None and not self.start and self.end is None


ALL: Final = Selection()


class Put(NamedTuple):
    """One item to write. ``expire_us`` is absolute; the value of an upload is its manifest, and ``chunked`` is set."""

    key: bytes
    value: bytes
    content_type: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    expire_us: int = 0
    condition: Condition | None = None
    chunked: bool = False


class Delete(NamedTuple):
    """Items to delete."""

    selection: Selection
    condition: Condition | None = None


class Command(NamedTuple):
    """One atomic mutation of one record. ``body`` is a 16-byte digest of all that a retry must repeat.

    ``positions`` are the indexes of puts, then of deletes, in the caller's request. ``must_exist``: a delete of nothing
    is ItemNotFound. ``dry_run``: decide, write nothing. ``want_cost``: the receipt says what it cost.
    """

    record: bytes
    token: WriteToken
    puts: tuple[Put, ...]
    deletes: tuple[Delete, ...]
    positions: tuple[int, ...]
    body: bytes
    record_condition: Condition | None = None
    annotations: Mapping[str, str] | None = None
    must_exist: bool = False
    dry_run: bool = False
    want_cost: bool = False

    def changes(self) -> Iterator[tuple[int, Put | Delete]]:
        """Puts, then deletes, each with its index in the caller's request."""
        changes: tuple[Put | Delete, ...] = (*self.puts, *self.deletes)
        return zip(self.positions, changes, strict=True)


class Cost(NamedTuple):
    """What a mutation read and wrote."""

    bytes_read: int
    bytes_written: int
    items_read: int
    items_written: int


class Receipt(NamedTuple):
    """The answer to a mutation. ``sequence`` is its place in the namespace's feed, 0 when nothing changed for
    readers."""

    outcome: Outcome
    version: bytes
    deleted_items: int
    sequence: int
    cost: Cost | None = None


class Item(NamedTuple):
    """An item as a reader sees it. ``value`` is empty when left out or chunked; ``size`` is the value's in any case."""

    key: bytes
    value: bytes
    version: bytes
    write_us: int
    expire_us: int
    content_type: str
    attributes: tuple[tuple[str, str], ...]
    size: int
    chunked: bool


def etag_of(version: bytes) -> str:
    """The etag of a version: its hexadecimal digits; empty for nothing."""
    return version.hex()
