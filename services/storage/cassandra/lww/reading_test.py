"""What is asked of a record before a mutation of many keys is decided: of one that is not there, next to nothing."""

import asyncio

import pytest

from services.storage.cassandra.lww.cells import Head, encode_head, encode_plain
from services.storage.cassandra.lww.reading import LwwLoader
from services.storage.cassandra.lww.record import LwwPartition
from services.storage.cassandra.partition import HEAD, ITEMS, TOKENS, TOMBS, Loaded
from services.storage.store import rows

NOW_US = 1_700_000_000_000_000
VERSION = NOW_US.to_bytes(8, "big") + b"n" * 8
PLACE = (1, b"r")
TOKEN = (TOKENS, b"t" * 24)
MANY = tuple((ITEMS, b"%03d" % number) for number in range(250))


class Table:
    """The rows of one record, and what was asked for; a session and its statements at once."""

    def __init__(self, rows):
        self.rows = rows
        self.asked = []
        self.read = {name: name for name in ("lww_rows", "lww_begin", "lww_begin_many")}

    async def execute(self, statement, values, consistency):
        assert statement == "lww_rows" and values[:2] == PLACE
        self.asked.append(values[2])
        return [(*place, *self.rows[place]) for place in sorted(values[2]) if place in self.rows]


def read(table, wanted):
    loaded = Loaded()
    asyncio.run(LwwLoader(table, table, None, lambda: NOW_US, 1).rows(PLACE, wanted, loaded, 1))
    return loaded.partition(PLACE)


def record(*keys):
    """A record with these items and a remembered token."""
    item = {"ordered": False, "content_type": "", "attributes": (), "chunked": False}
    found = {(HEAD, b""): (encode_head(Head(NOW_US, VERSION, False, False)), None), TOKEN: (b"token", None)}
    for key in keys:
        found[ITEMS, key] = (encode_plain(rows.encode(VERSION, NOW_US, 0, value=key, **item)), None)
    return found


def test_a_record_that_is_not_there_is_asked_for_its_own_cells_and_the_token_alone():
    table = Table({})
    partition = read(table, (TOKEN, *MANY))
    assert [set(asked) for asked in table.asked] == [{(HEAD, b""), (ITEMS, b""), TOKEN}]
    assert partition.head is None and partition.whole
    assert all(partition.spans[ITEMS].known(key) for _, key in MANY) and partition.spans[TOKENS].known(TOKEN[1])


@pytest.mark.parametrize("keys", [(b"", b"007"), (b"007", b"249"), (b"elsewhere",)])
def test_one_that_is_there_is_asked_for_every_key_once(keys):
    table = Table(record(*keys))
    partition = read(table, (TOKEN, *MANY))
    asked = [row for piece in table.asked for row in piece]
    assert sorted(asked) == sorted({(HEAD, b""), (ITEMS, b""), TOKEN, *MANY}) and max(map(len, table.asked)) <= 100
    there = {key for _, key in MANY if key in keys}
    assert {key for _, key in MANY if key in partition.spans[ITEMS].rows} == there
    assert partition.loaded and partition.spans[TOKENS].rows == {TOKEN[1]: b"token"}


def test_few_rows_are_asked_for_at_once():
    for table in (Table({}), Table(record(b"007"))):
        read(table, (TOKEN, *MANY[:10]))
        assert len(table.asked) == 1 and len(table.asked[0]) == 13


def test_a_record_that_is_not_there_is_told_in_short_as_at_length(monkeypatch):
    def told():
        partition = read(Table({}), (TOKEN, *MANY))
        spans = [(partition.spans[kind].covered, partition.spans[kind].rows) for kind in (ITEMS, TOMBS)]
        return partition.head, partition.loaded, partition.items, spans

    short = told()
    monkeypatch.setattr(LwwPartition, "_derive_none", lambda self: self._derive(NOW_US))
    assert told() == short == (None, True, 0, [([(b"", None)], {})] * 2)
