"""A read answered from the page of its whole record, as the store would answer it."""

from collections.abc import Iterable
from typing import Final

from services.storage.domain.model import ALL, Item
from services.storage.domain.namespace import Consistency
from services.storage.store import rows
from services.storage.store.interface import Page, Read

_OVERHEAD: Final = rows.HEADER_SIZE + 64
"""What an item's version, times and framing add to its bytes in an answer."""
_MAX_ITEMS: Final = 1000
"""Of a record whose page is kept."""


def whole(read: Read, max_bytes: int) -> Read:
    """The read of all of a record, up to the size that is kept; as reads of the consistency LOCAL see it, whatever is
    weaker."""
    return Read(read.namespace, read.record, ALL, None, max_bytes, _MAX_ITEMS, consistency=Consistency.LOCAL)


def keepable(page: Page, max_bytes: int) -> bool:
    """Whether the answer to :func:`whole` is all of the record and within the size (one item comes however large), and
    tells by itself when it is over (:func:`over`)."""
    whole_of_it = page.resume is None and page.size <= max_bytes
    return whole_of_it and not page.overdue and (bool(page.items) or not page.found)


def too_big(page: Page, max_bytes: int) -> bool:
    """Whether the answer to :func:`whole` says that the record is too big to be kept. One that was cut short of the
    bounds, for the batch it came in, does not say."""
    return page.size > max_bytes or (page.resume is not None and len(page.items) >= _MAX_ITEMS)


def over(page: Page, now_us: int) -> bool:
    """Whether an item of the page of a whole record has expired. Then the page is over: with the item goes what the
    record's version was."""
    return any(item.expire_us and item.expire_us <= now_us for item in page.items)


def select(page: Page, read: Read, max_bytes: int) -> Page:
    """What ``read`` asks for of the page of its whole record, in at most ``max_bytes`` (one item always comes)."""
    if not page.found:
        return page
    items: list[Item] = []
    size = 0
    for item in _selected(page.items, read):
        size += _size(item, omit_value=read.omit_values)
        if items and (len(items) >= read.max_items or size > max_bytes):
            return Page(items, items[-1].key, True, page.version, size)
        items.append(item._replace(value=b"") if read.omit_values else item)
    return Page(items, None, True, page.version, size)


def _selected(items: list[Item], read: Read) -> Iterable[Item]:
    keys, start, end, reverse = read.selection
    after = read.after
    wanted = None if keys is None else frozenset(keys)
    for item in reversed(items) if reverse else items:
        key = item.key
        if wanted is not None:
            if key not in wanted:
                continue
        elif key < start or (end is not None and key >= end):
            continue
        if after is None or (key < after if reverse else key > after):
            yield item


def _size(item: Item, *, omit_value: bool) -> int:
    if omit_value:
        return len(item.key) + _OVERHEAD
    notes = sum(len(name) + len(text) + 4 for name, text in item.attributes)
    return len(item.key) + len(item.value) + len(item.content_type) + notes + _OVERHEAD
