"""The page of a record that is nothing but its flat item, straight from the rows as they were read.

Most records are such, and a reader of one needs no decision: neither a view nor the engine. Whatever else a record has
(more items, versions that were ordered, tombstones, ranges of them) is left to the engine, and so is every read that
selects.
"""

from collections.abc import Sequence
from typing import Any

from services.storage.cassandra.lww.cells import decode_cells, decode_head
from services.storage.cassandra.partition import HEAD, ITEMS
from services.storage.domain.model import ALL
from services.storage.store import rows
from services.storage.store.interface import Page, Read
from services.storage.store.reader import flat_page
from services.storage.store.record import INLINE_SIZE


def glanced(read: Read, found: Sequence[Any], now_us: int) -> Page | None:
    """The page of ``read``, given the first rows of its record as the statement ``lww_begin`` brings them; None when
    it takes the engine to tell."""
    if read.selection != ALL or read.after is not None or len(found) != 2:
        return None
    (kind, _, own, ranges), (item_kind, key, cell, ordered) = found
    if kind != HEAD or own is None or ranges or item_kind != ITEMS or key or cell is None or ordered:
        return None
    head, row = decode_head(own), decode_cells(cell, None).plain
    if head.ended or row is None or len(row) > INLINE_SIZE or rows.is_dead(row, 0):
        return None
    return flat_page(row, head.version, now_us, omit_value=read.omit_values)
