"""What storage asks of a backend. Small, so that one built on conditional row writes can do it too.

Every answer is durable: a read never shows, and a refusal never rests on, what a crash could take back. Positions and
cursors are the backend's own bytes; the servicer signs them before they leave. Times are microseconds since 1970.
Errors are those of ``domain/errors.py``, and Unavailable or ResourceExhausted of the backend itself.
"""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from libs.errors.errors import WellspringError
from services.storage.domain.copying import Copied
from services.storage.domain.feed import ChangeEvent
from services.storage.domain.model import Command, Item, Receipt, Selection, WriteToken
from services.storage.domain.namespace import Consistency, Namespace, Settings
from services.storage.store.manifest import Manifest


class Write(NamedTuple):
    """One atomic mutation of one record of a namespace."""

    namespace: Namespace
    command: Command


class Read(NamedTuple):
    """A page of a record: the selected items after the key ``after`` (before it in reverse), within both bounds.

    One item always comes if there is one, however large. ``consistency``: None is the namespace's own. ``seen``: the
    cursor of a write (of its cookie, as ``feed_reaches`` let it through) that the read must see; empty for none.
    """

    namespace: Namespace
    record: bytes
    selection: Selection
    after: bytes | None
    max_bytes: int
    max_items: int
    omit_values: bool = False
    consistency: Consistency | None = None
    seen: bytes = b""


class Page(NamedTuple):
    """``resume`` is the key to go on after, None when the selection is exhausted. ``found``: the record has an item,
    selected or not; ``version`` is its newest. ``size`` counts the bytes of keys and values answered. ``overdue``: an
    expired item was passed over that is not swept yet; the record's version changes when it is."""

    items: list[Item]
    resume: bytes | None
    found: bool
    version: bytes
    size: int
    overdue: bool = False


class Scan(NamedTuple):
    """A piece of a namespace: records in [start, end) (``end`` None: to the last), from ``position`` on (None: from the
    start), each projected by ``selection``; about ``max_records`` and ``max_bytes``, one record at least in part."""

    namespace: Namespace
    start: bytes
    end: bytes | None
    position: bytes | None
    selection: Selection
    omit_values: bool
    max_records: int
    max_bytes: int


class ScannedRecord(NamedTuple):
    """A record, or a piece of it: ``partial`` when more of it follows."""

    record: bytes
    items: list[Item]
    partial: bool


class ScanPage(NamedTuple):
    """``position`` is where to go on, None at the end. A page may be empty and not the last."""

    records: list[ScannedRecord]
    position: bytes | None


class FeedPage(NamedTuple):
    """Changes in order, and the cursor behind the last of them (or behind what was passed over)."""

    events: list[ChangeEvent]
    cursor: bytes
    more: bool


class Remembered(NamedTuple):
    """A mutation that is remembered: ``current`` when readers see what it wrote."""

    version: bytes
    current: bool


class KeptVersion(NamedTuple):
    """An earlier (or the present) version of an item; ``deleted`` for the delete that ended it, whose item has no
    value."""

    item: Item
    deleted: bool


class Usage(NamedTuple):
    """What a namespace holds; ``exact`` when nothing was estimated."""

    records: int
    items: int
    size_bytes: int
    exact: bool
    counted_us: int


class RecordProfile(NamedTuple):
    """What one record holds: of the items that are there, swept or not. ``largest`` is about the size of its biggest
    value."""

    record: bytes
    items: int
    size_bytes: int
    tombstones: int
    largest: int


class Store(Protocol):
    """One backend."""

    # Namespaces

    async def namespaces(self) -> list[Namespace]:
        """All of them, those in their grace period too, by name."""

    async def create_namespace(self, settings: Settings, now_us: int, *, restoring: bool = False) -> Namespace:
        """A new namespace with a number never used before. The caller has made sure that the name is free."""

    async def replace_namespace(self, namespace: Namespace) -> None:
        """New settings or state under the same number."""

    async def purge_namespace(self, namespace: Namespace) -> None:
        """Removes it and all its data."""

    # Records

    async def mutate(self, writes: Sequence[Write]) -> list[Receipt | WellspringError]:
        """Each write atomic for itself, in order; one receipt or one error for each."""

    async def read(self, read: Read) -> Page: ...

    async def read_many(self, reads: Sequence[Read], max_bytes: int) -> list[Page | WellspringError]:
        """Each read for itself; those that no longer fit ``max_bytes`` together are BatchBudgetSpent."""

    async def scan(self, scan: Scan) -> ScanPage: ...

    async def split(self, namespace: Namespace, parts: int) -> list[bytes]:
        """At most ``parts`` - 1 record keys, ascending, that cut the namespace into about equal parts."""

    async def outcome(self, namespace: Namespace, record: bytes, token: WriteToken) -> Remembered | None:
        """What is remembered of a token; None when nothing is."""

    async def usage(self, namespace: Namespace) -> Usage: ...

    # The feed

    async def feed_start(self, namespace: Namespace, *, from_beginning: bool) -> bytes:
        """The cursor before the oldest kept change, or behind the newest."""

    async def feed(self, namespace: Namespace, cursor: bytes, max_events: int) -> FeedPage:
        """Changes behind ``cursor``. Raises ResumeTokenExpired when some of them are no longer kept."""

    async def feed_grown(self, namespace: Namespace, cursor: bytes, timeout_s: float) -> bool:
        """Waits until there is something behind ``cursor``; False when the time was over first."""

    def feed_reaches(self, namespace: Namespace, cursor: bytes) -> bool:
        """Whether a read of this server that brings ``cursor`` as ``seen`` can see that write at all."""

    def feed_cursor(self, namespace: Namespace, receipt: Receipt) -> bytes:
        """The cursor behind the write of ``receipt``: what its cookie carries."""

    # The past

    async def versions(
        self, namespace: Namespace, record: bytes, key: bytes, after: bytes | None, limit: int, *, omit_values: bool
    ) -> tuple[list[KeptVersion], bytes | None]:
        """Versions of an item, newest first, behind the position ``after``; and where to go on, None at the end."""

    async def undelete(self, namespace: Namespace, command: Command, selection: Selection, version: bytes) -> Receipt:
        """Puts back what the delete with ``version`` (the newest when empty) removed of ``selection`` and what is not
        there again since. ``deleted_items`` of the receipt counts the restored ones. ``command`` brings the record, the
        token and the body. Raises VersionNotFound, ItemNotFound."""

    # Big values

    async def begin_upload(self, namespace: Namespace, now_us: int) -> bytes:
        """The name of a new upload, swept if it is not finished in time."""

    async def put_chunk(self, namespace: Namespace, upload: bytes, index: int, chunk: bytes) -> None: ...

    async def drop_upload(self, namespace: Namespace, upload: bytes) -> None:
        """Removes what was uploaded."""

    async def manifest(self, namespace: Namespace, record: bytes, key: bytes) -> tuple[Item, Manifest | None, bytes]:
        """The item, its manifest, and the value when it is not chunked. Raises ItemNotFound."""

    def chunks(self, namespace: Namespace, manifest: Manifest, offset: int, limit: int) -> AsyncIterator[bytes]:
        """The bytes [offset, offset + limit) of an uploaded value, in pieces. Raises ChecksumMismatch."""

    # The whole

    def copy(self, namespace: Namespace, records: Sequence[bytes] | None = None) -> AsyncIterator[Copied | bytes]:
        """All that readers see, or of ``records`` alone, as it was at one moment; a record comes in one piece, its
        items by key, and after a chunked item its bytes in pieces of at most 1 MiB. Raises ChecksumMismatch. Use it up,
        or close it."""

    async def load(self, namespace: Namespace, items: Sequence[Copied], *, free: bool) -> list[bool]:
        """Writes items with the versions they bring, those of one record together; True for each that was written, as
        ``domain.copying.merge`` says. Raises QuotaExceeded (unless ``free``) when not all of them fit: some of the
        records may have been written, each whole."""

    async def profile(self, namespace: Namespace, start: bytes, limit: int) -> list[RecordProfile]:
        """Sizes of the ``limit`` records from ``start`` on."""

    async def rebucket(self, namespace: Namespace, record: bytes) -> tuple[int, int] | None:
        """Spreads a wide record over as many buckets as it needs; how many it had and has. None: no such record."""

    # Documents: a few small things that all servers of a store share

    async def document(self, kind: str, name: str) -> bytes | None: ...

    async def documents(self, kind: str) -> list[tuple[str, bytes]]:
        """(name, document) of a kind, by name."""

    async def put_document(self, kind: str, name: str, body: bytes | None, *, near: bool = False) -> None:
        """Writes a document; None removes it. ``near``: it is enough that this data centre has it; servers in another
        one may read what was there before."""

    # Care

    async def signing_key(self) -> bytes:
        """32 random bytes, made on first use and the same for every server of the store: what tokens are signed
        with."""

    async def sweep(self, now_us: int, budget: int) -> bool:
        """Removes about ``budget`` things whose time is over; True when there is more to do."""

    async def check(self) -> None:
        """Raises when the backend cannot work."""

    async def close(self) -> None: ...
