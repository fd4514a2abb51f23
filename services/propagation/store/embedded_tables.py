"""The parts of one open embedded store, together: what a commit gathers from and what a write changes."""

from collections.abc import Iterator, Sequence
from itertools import islice

from libs.embedded.family import Family, prefix_end
from libs.embedded.store import EmbeddedStore as Database
from services.propagation.store.embedded_columns import Column
from services.propagation.store.embedded_compaction import Compaction
from services.propagation.store.embedded_draft import Draft
from services.propagation.store.embedded_forward import Forward
from services.propagation.store.embedded_inputs import Inputs
from services.propagation.store.embedded_layout import MOST_VIEWS, check_room, u16
from services.propagation.store.embedded_names import Names
from services.propagation.store.embedded_outputs import Outputs
from services.propagation.store.embedded_recent import Recent
from services.propagation.store.embedded_reverse import Reverse
from services.propagation.store.interface import UnknownNumber

_VIEW = b"view/"


class Views:
    """View numbers, by name."""

    def __init__(self, meta: Family) -> None:
        self._meta = meta
        self.written = {key[len(_VIEW) :].decode(): int.from_bytes(value, "big") for key, value in meta.scan(_VIEW)}
        self._given = dict(self.written)

    def intern(self, names: Sequence[str]) -> list[int]:
        """Numbers, new ones given. Raises TooMany."""
        for name in names:
            if name not in self._given:
                self._given[name] = check_room(len(self._given), MOST_VIEWS, "views")
        return [self._given[name] for name in names]

    def give(self, views: dict[str, int]) -> None:
        """These views have these numbers: another store gave them."""
        self._given.update(views)

    def check(self, view: int) -> None:
        """Raises UnknownNumber for a view never given."""
        if not 0 <= view < len(self._given):
            raise UnknownNumber(f"view number {view} was never given; {len(self._given)} are")

    def draft(self, draft: Draft, views: dict[str, int]) -> None:
        """Puts new views into a write."""
        for name, number in views.items():
            draft.put(self._meta, _VIEW + name.encode(), u16(number))


class ViewColumns:
    """What is known of each resource in one view."""

    def __init__(self, family: Family, view: int) -> None:
        self.rendered_at = Column(family, b"r" + u16(view), "<u8")
        self.output_changed_at = Column(family, b"w" + u16(view), "<u8")
        self.hashes = Column(family, b"h" + u16(view), "V16")


class Records:
    """The engine's small records, by kind and key."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def get(self, kind: str, key: bytes) -> bytes | None:
        """The value, None when absent."""
        return self._family.get(_head(kind) + key)

    def scan(
        self, kind: str, start: bytes, end: bytes | None, reverse: bool, limit: int | None
    ) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of a range of keys, in order."""
        head = _head(kind)
        low, high = head + start, prefix_end(head) if end is None else head + end
        found = self._family.scan(start=low, end=high, reverse=reverse)
        return ((key[len(head) :], value) for key, value in islice(found, limit))

    def draft_put(self, draft: Draft, kind: str, key: bytes, value: bytes) -> None:
        """Puts a record into a write."""
        draft.put(self._family, _head(kind) + key, value)

    def draft_delete(self, draft: Draft, kind: str, key: bytes) -> None:
        """Puts the removal of a record into a write."""
        draft.delete(self._family, _head(kind) + key)

    def draft_delete_prefix(self, draft: Draft, kind: str, prefix: bytes) -> None:
        """Puts the removal of all records with a prefix into a write, those that it just put included."""
        head = _head(kind) + prefix
        changed = draft.changed(self._family)
        gone = [key for key in changed if key.startswith(head)]
        changed.update(dict.fromkeys(gone))
        changed.update(dict.fromkeys(self._family.scan_keys(head)))


class Tables:
    """Every part, over one open database."""

    def __init__(self, database: Database, epoch: int, cache_bytes: int) -> None:
        """`cache_bytes` bound the names and inputs kept in memory."""
        self.meta = meta = database.family("meta")
        columns, names = database.family("columns"), database.family("names")
        self._columns = columns
        self._by_view: dict[int, ViewColumns] = {}
        self.views = Views(meta)
        self.names = Names(names, database.family("name_blocks"), counter(meta, b"resources"), cache_bytes // 4)
        inputs, known = database.family("inputs"), counter(meta, b"inputs")
        self.inputs = Inputs(meta, inputs, columns, known, cache_bytes - cache_bytes // 4)
        self.outputs = Outputs(names, columns, self.views.written)
        self.forward = Forward(database.family("forward"))
        self.recent = Recent(meta, database.family("arrivals"))
        self.reverse = Reverse(database.family("reverse"), database.family("arrivals"), self.recent)
        self.compaction = Compaction(self.reverse, epoch)
        self.records = Records(database.family("records"))
        self.edge_count = counter(meta, b"edges")
        self.edge_commits = 0
        self._commits = epoch << 32

    def columns(self, view: int) -> ViewColumns:
        """The columns of a view."""
        found = self._by_view.get(view)
        if found is None:
            found = self._by_view[view] = ViewColumns(self._columns, view)
        return found

    def next_commit(self) -> int:
        """A number above those of all commits of this and earlier runs."""
        self._commits += 1
        return self._commits


def counter(meta: Family, name: bytes) -> int:
    """A counter as it was last written, 0 at first."""
    return int.from_bytes(meta.get(name) or b"", "big")


def _head(kind: str) -> bytes:
    return kind.encode() + b"\0"
