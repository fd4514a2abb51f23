"""Pages told of as gone by their home, of which the store has no version: as of which version they are gone.

Kept beside the root that they are pending under (records.py). Purges have it as their minimum: a
store that follows may still show what was stored before (decision 0153).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from libs.ids.ids import VERSION_BYTES
from services.propagation.domain.records import GONE
from services.propagation.domain.roots import Root
from services.propagation.domain.sequence import encode
from services.propagation.store.interface import Bytes16, Commit, Numbers, Store
from services.propagation.store.numbers import to_numbers

_NUMBER_BYTES = 4


@dataclass(frozen=True, slots=True)
class Gone:
    """`versions` of `items`, which ascend."""

    items: Numbers
    versions: Bytes16

    @classmethod
    def of(cls, items: Numbers, versions: Sequence[bytes]) -> "Gone":
        """In any order."""
        order = np.argsort(items)
        return cls(items[order], np.frombuffer(b"".join(versions), "V16")[order])

    def put(self, commit: Commit, root: int) -> None:
        """Writes the record: the numbers (uint32), then the versions."""
        commit.put_record(
            GONE, encode(root), np.ascontiguousarray(self.items, "<u4").tobytes() + self.versions.tobytes()
        )

    @classmethod
    def read(cls, store: Store, root: int) -> "Gone":
        """The root's; none where nothing is kept."""
        value = store.get_record(GONE, encode(root)) or b""
        count = len(value) // (_NUMBER_BYTES + VERSION_BYTES)
        return cls(np.frombuffer(value, "<u4", count), np.frombuffer(value, "V16", count, _NUMBER_BYTES * count))


def versions(store: Store, view: int, ids: Numbers, items: BitMap, roots: Iterable[Root]) -> Bytes16 | None:
    """For each of `ids` (those of `items`) the newest version that one of the roots that still want it tells; zeros
    where none does, None where none does of any."""
    found: Bytes16 | None = None
    for root in roots:
        gone = Gone.read(store, root.sequence)
        if not len(gone.items):
            continue
        wanted = BitMap(gone.items) & items
        for group in root.of_view(view):
            if group.level == 1:
                mine = to_numbers(wanted & group.pending)
                if len(mine):
                    found = np.zeros(len(ids), "V16") if found is None else found
                    told = gone.versions[np.searchsorted(gone.items, mine)]
                    for at, version in zip(np.searchsorted(ids, mine).tolist(), told, strict=True):
                        found[at] = max(found[at], version, key=bytes)
    return found
