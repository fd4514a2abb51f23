"""Damage of any bit of a cell is noticed, and so is a cell in another's place; what a replica has whole comes back."""

import asyncio

import pytest

from services.storage.cassandra import mending_cells
from services.storage.cassandra.checking import LWW, RECORDS, Cell, Checking, Spot
from services.storage.cassandra.lww.cells import decode_cells, encode_ordered, encode_plain, time_of
from services.storage.cassandra.mending_cells import MendingCells
from services.storage.cassandra.partition import HEAD, HISTORY, ITEMS, TOKENS, TOMBS
from services.storage.cassandra.sums import HEAD_AT, MARK, ORDERED_AT, PLAIN_AT, ROW_AT, Damaged, Sums
from services.storage.domain.errors import ChecksumMismatch
from services.storage.store import layout, rows

NOW_US = 1_700_000_000_000_000
VERSION = NOW_US.to_bytes(8, "big") + b"nonce678"
PLACE = (7, b"record")
ROW = rows.encode(VERSION, NOW_US, 0, ordered=False, content_type="", attributes=(), value=b"value", chunked=False)
TOMB = rows.encode_tomb(VERSION, NOW_US, ordered=False)
CELLS = [
    (HEAD, b"", b"\x0f" + VERSION + bytes(28), HEAD_AT, b""),
    (ITEMS, b"k", ROW, ROW_AT, b""),
    (TOMBS, b"k", TOMB, ROW_AT, b""),
    (HISTORY, b"k" + layout.inverted(VERSION), bytes(16) + NOW_US.to_bytes(8, "big") + ROW, ROW_AT, b""),
    (ITEMS, b"k", encode_plain(ROW), PLAIN_AT, b""),
    (ITEMS, b"k", encode_plain(TOMB), PLAIN_AT, b""),
    (ITEMS, b"k", encode_ordered(NOW_US, ROW), ORDERED_AT, VERSION),
]


def sealed(case, place=PLACE, **rest):
    kind, key, cell, at, version = case
    return Sums(place).seal(kind, key, cell, at, version=version, **rest)


def opened(case, cell, place=PLACE):
    kind, key, _, at, version = case
    return Sums(place).opened(kind, key, cell, at, version=version)


@pytest.mark.parametrize("case", CELLS)
def test_no_flipped_bit_and_no_cut_is_taken_for_what_was_written(case):
    cell = sealed(case)
    assert opened(case, cell) == case[2]
    for at in range(len(cell)):
        for bit in range(8):
            flipped = bytearray(cell)
            flipped[at] ^= 1 << bit
            try:
                assert opened(case, bytes(flipped)) == case[2]  # the mark alone may be another one
                assert at == case[3]
            except Damaged:
                pass
        with pytest.raises(Damaged):
            opened(case, cell[:at])
    with pytest.raises(Damaged):
        opened(case, cell + b"\0")


@pytest.mark.parametrize("case", CELLS)
def test_a_cell_is_of_its_place_alone(case):
    cell = sealed(case)
    for place in ((8, b"record"), (7, b"recor"), (7, b"records")):
        with pytest.raises(Damaged):
            opened(case, cell, place)
    kind, key, content, at, version = case
    others = [(kind + 1, key), (kind, key + b"k"), *([(kind, b"K" + key[1:])] if key else [])]
    for other in others:
        with pytest.raises(Damaged):
            opened((*other, content, at, version), cell)
    if version:
        with pytest.raises(Damaged):
            opened((kind, key, content, at, bytes(16)), cell)


@pytest.mark.parametrize("case", CELLS)
def test_what_was_written_before_there_were_checksums_is_as_it_is(case):
    assert opened(case, case[2]) == case[2]


def test_a_tombstone_lies_above_an_item_of_its_version_whichever_release_wrote_them():
    items = [encode_plain(ROW), sealed(CELLS[4]), sealed(CELLS[4], mark=MARK + 9)]
    tombs = [encode_plain(TOMB), sealed(CELLS[5])]
    assert max(items) < min(tombs)


class Replicas:
    """What each has of rows: (value, timestamp) or (value, timestamp, more, timestamps); and what was put."""

    def __init__(self, *have):
        self.have = list(have)
        self.put = []

    async def everywhere(self, datacentres, read, values):
        for row in self.have:
            yield row

    @property
    def here(self):
        return self, self

    @property
    def write(self):
        return {name: name for name in ("mend_row", "lww_put", "lww_put_more")}

    async def execute(self, statement, values, consistency):
        self.put.append((statement, values))


@pytest.fixture
def mending(monkeypatch):
    def made(*have):
        replicas = Replicas(*have)
        monkeypatch.setattr(mending_cells, "everywhere", replicas.everywhere)
        return replicas, MendingCells(replicas)

    return made


def damage(cell, at=-1):
    return cell[:at] + bytes([cell[at] ^ 0xFF]) + (cell[at:][1:])


PLAIN, ORDERED = CELLS[4], CELLS[6]
SPOT = Spot(LWW, PLACE, ITEMS, b"k", PLAIN_AT, (*PLACE, ITEMS, b"k"))


@pytest.mark.parametrize("mark", [MARK, MARK + 1, 0xFE])
def test_what_is_put_over_a_damaged_cell_wins_at_its_own_timestamp(mending, mark):
    broken = damage(sealed(PLAIN, mark=mark))
    replicas, cells = mending((broken, NOW_US, None, None), (sealed(PLAIN), NOW_US, None, None))
    found = asyncio.run(cells.cells(SPOT))
    assert found == {b"": Cell(PLAIN[2], NOW_US)}
    ((statement, (stamp, cell, *row)),) = replicas.put
    assert (statement, stamp, row) == ("lww_put", NOW_US, [*PLACE, ITEMS, b"k"])
    assert cell > broken and opened(PLAIN, cell) == PLAIN[2]


def test_rows_of_conditional_writes_are_put_at_the_time_that_they_have(mending):
    item = CELLS[1]
    replicas, cells = mending((sealed(item), 5), (damage(sealed(item)), 5))
    assert asyncio.run(cells.cells(Spot(RECORDS, PLACE, ITEMS, b"k", ROW_AT, (*PLACE, ITEMS, b"k")))) == {
        b"": Cell(ROW, 5)
    }
    assert [(statement, values[0]) for statement, values in replicas.put] == [("mend_row", 5)]


def test_an_ordered_cell_is_had_by_its_version(mending):
    whole, stamps = {VERSION: sealed(ORDERED)}, [NOW_US]
    broken = {VERSION: damage(sealed(ORDERED))}
    replicas, cells = mending((None, None, broken, stamps), (None, None, whole, stamps))
    assert asyncio.run(cells.cells(SPOT)) == {VERSION: Cell(ORDERED[2], NOW_US)}
    assert [values[:2] for _, values in replicas.put] == [(NOW_US, VERSION)]


def test_an_older_whole_cell_is_no_answer(mending):
    replicas, cells = mending((damage(sealed(PLAIN)), NOW_US, None, None), (sealed(PLAIN), NOW_US - 1, None, None))
    assert asyncio.run(cells.cells(SPOT)) == {b"": Cell(None, NOW_US)}
    assert not replicas.put


def test_a_later_whole_cell_is_the_answer(mending):
    replicas, cells = mending((damage(sealed(PLAIN)), NOW_US, None, None), (sealed(PLAIN), NOW_US + 1, None, None))
    assert asyncio.run(cells.cells(SPOT)) == {b"": Cell(PLAIN[2], NOW_US + 1)}
    assert not replicas.put


def test_one_whose_first_bytes_are_damaged_is_answered_and_stays(mending):
    broken = b"\xff" + sealed(PLAIN)[1:]
    replicas, cells = mending((broken, NOW_US, None, None), (sealed(PLAIN), NOW_US, None, None))
    assert asyncio.run(cells.cells(SPOT)) == {b"": Cell(PLAIN[2], NOW_US)}
    assert not replicas.put


def checked(work):
    return asyncio.run(work)


def test_where_no_replica_has_it_an_item_is_there_that_nobody_can_read(mending):
    for broken in (damage(sealed(PLAIN)), b"\xff" * 60, b"\xff"):
        _, cells = mending((broken, NOW_US, None, None))
        ((kind, key, value, more),) = checked(Checking(cells).lww(PLACE, [(ITEMS, b"k", broken, None)]))
        row = decode_cells(value, more).plain
        # It is removed and replaced as what was written then.
        assert (kind, key, more) == (ITEMS, b"k", None) and time_of(rows.known(row).version) == NOW_US
        with pytest.raises(ChecksumMismatch) as told:
            rows.decode(b"k", row)
        assert told.value.metadata == {"record": b"record".hex(), "item": b"k".hex()}


def test_an_ordered_one_and_an_earlier_version_too(mending):
    broken = damage(sealed(ORDERED))
    _, cells = mending((None, None, {VERSION: broken}, [NOW_US]))
    ((_, _, value, more),) = checked(Checking(cells).lww(PLACE, [(ITEMS, b"k", None, {VERSION: broken})]))
    ordered = decode_cells(value, more).ordered[VERSION]
    assert ordered.stamp == NOW_US and rows.known(ordered.row).version == VERSION
    past = CELLS[3]
    for table in ("record", "lww"):
        broken = damage(sealed(past))
        _, cells = mending((broken, NOW_US, None, None))
        row = (HISTORY, past[1], broken, None)
        ((_, _, value, *_),) = checked(getattr(Checking(cells), table)(PLACE, [row]))
        assert rows.known(value[24:]).version == VERSION
        with pytest.raises(ChecksumMismatch):
            rows.decode(b"k", value[24:])


def test_a_record_whose_own_row_is_lost_is_told_by_name(mending):
    broken = damage(sealed(CELLS[0]))
    _, cells = mending((broken, NOW_US))
    with pytest.raises(ChecksumMismatch) as told:
        checked(Checking(cells).record(PLACE, [(HEAD, b"", broken, None, None)]))
    assert told.value.metadata == {"record": b"record".hex()}


def test_what_is_no_item_is_left_as_it_is(mending):
    replicas, cells = mending()
    found = [(TOKENS, b"t", b"anything", None), (HEAD, b"", None, None)]
    assert checked(Checking(cells).record(PLACE, found)) == found
    assert checked(Checking(cells).lww(PLACE, found)) == found
