"""What a glance tells is what the engine tells, of every kind of record; and of plain flat ones it does tell."""

import asyncio
import itertools

from services.storage.cassandra.lww.cells import (
    Head,
    Range,
    encode_head,
    encode_ordered,
    encode_plain,
    encode_range,
    range_id,
)
from services.storage.cassandra.lww.glance import glanced
from services.storage.cassandra.lww.reading import LwwLoader
from services.storage.cassandra.lww.record import LwwPartition
from services.storage.cassandra.partition import HEAD, ITEMS, Loaded
from services.storage.cassandra.view import View
from services.storage.domain.decide import RangeTomb
from services.storage.domain.model import ALL, Mode, Selection
from services.storage.domain.namespace import Namespace, Settings
from services.storage.store import rows
from services.storage.store.interface import Page, Read
from services.storage.store.ledger import Account
from services.storage.store.local import LocalStore

NOW_US = 1_700_000_000_000_000
SPACE = Namespace(Settings("space", Mode.LWW), 1, 0, stamped=True)
PLACE = (1, b"r")


def version(time_us):
    return time_us.to_bytes(8, "big") + b"n" * 8


def row(*, at=NOW_US - 9, expire_us=0, value=b"value", kind="text/plain", chunked=False, ordered=False):
    options = {"ordered": ordered, "content_type": kind, "attributes": (("a", "b"),) if kind else (), "value": value}
    return rows.encode(version(at), at, expire_us, chunked=chunked, **options)


PLAIN = {
    "nothing": None,
    "an item": row(),
    "without media type": row(kind=""),
    "empty": row(value=b""),
    "expires": row(expire_us=NOW_US + 1),
    "expired": row(expire_us=NOW_US),
    "as large as it may be inline": row(kind="", value=b"v" * (16 * 1024 - rows.HEADER_SIZE)),
    "too large for that": row(kind="", value=b"v" * (16 * 1024 - rows.HEADER_SIZE + 1)),
    "deleted": rows.encode_tomb(version(NOW_US - 9), NOW_US, ordered=False),
}
TOMB = RangeTomb(version(NOW_US - 5), False, b"", None, NOW_US + 99)
RANGES = {"no range": None, "a range above it": {range_id(TOMB): encode_range(Range(NOW_US, TOMB))}}
ORDERED = {
    "no render": None,
    "a render": {version(NOW_US - 3): encode_ordered(NOW_US, row(at=NOW_US - 3, ordered=True, value=b"rendered"))},
}
OTHERS = {"alone": [], "with another": [(ITEMS, b"key", encode_plain(row()), None)]}
READS = {
    "all": Read(SPACE, b"r", ALL, None, 1 << 20, 100, False),
    "headers": Read(SPACE, b"r", ALL, None, 1 << 20, 100, True),
    "behind it": Read(SPACE, b"r", ALL, b"", 1 << 20, 100, False),
    "its key": Read(SPACE, b"r", Selection(keys=(b"",)), None, 1 << 20, 100, False),
    "others": Read(SPACE, b"r", Selection(start=b"k"), None, 1 << 20, 100, False),
}


def by_the_engine(read, found) -> Page:
    partition = LwwPartition(PLACE, 1)
    LwwLoader._begun(partition, found)
    partition.derive(NOW_US)
    view = View(Loaded(partitions={PLACE: partition}), [(SPACE, Account(1))], 0, reads_only=True)
    return asyncio.run(LocalStore(view, lambda: NOW_US).read(read))


def test_a_glance_tells_what_the_engine_tells() -> None:
    told = set()
    every = itertools.product(PLAIN, RANGES, ORDERED, OTHERS, READS, (False, True), (False, True))
    for plain, ranges, ordered, others, read, head_ordered, ended in every:
        own = encode_head(Head(NOW_US, version(NOW_US - 2), head_ordered, ended))
        cell = PLAIN[plain] and encode_plain(PLAIN[plain])
        found = [(HEAD, b"", own, RANGES[ranges])]
        if cell or ORDERED[ordered]:
            found.append((ITEMS, b"", cell, ORDERED[ordered]))
        found += OTHERS[others]
        page = glanced(READS[read], found, NOW_US)
        case = (plain, ranges, ordered, others, read, head_ordered, ended)
        if page is not None:
            assert page == by_the_engine(READS[read], found), case
            told.add((plain, read))
    glances = {"an item", "without media type", "empty", "expires", "expired", "as large as it may be inline"}
    assert told == set(itertools.product(glances, ("all", "headers")))


def test_a_record_that_is_not_there_is_left_to_the_engine() -> None:
    assert glanced(READS["all"], [], NOW_US) is None
    assert glanced(READS["all"], [(ITEMS, b"", encode_plain(row()), None)], NOW_US) is None
