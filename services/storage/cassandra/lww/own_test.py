"""The cells of an LWW record's own row: what can never have been written is had elsewhere, or refused by name."""

import asyncio

import pytest

from services.storage.cassandra.checking import LWW, Cell, Spot
from services.storage.cassandra.lww import own
from services.storage.cassandra.lww.buckets import NOTE, Note, Run, encode_note
from services.storage.cassandra.lww.cells import Head, Range, encode_head, encode_range, range_id
from services.storage.cassandra.partition import HEAD, ITEMS
from services.storage.domain.decide import RangeTomb
from services.storage.domain.errors import ChecksumMismatch

STAMP = 1_700_000_000_000_000
PLACE = (7, b"record")
VERSION = STAMP.to_bytes(8, "big") + b"nonce678"
VALUE = encode_head(Head(STAMP, VERSION, True, False))
TOMBS = [RangeTomb(VERSION, False, b"a", b"c", STAMP + 9), RangeTomb(VERSION, True, b"", None, STAMP)]
MORE = {range_id(tomb): encode_range(Range(STAMP, tomb)) for tomb in TOMBS} | {
    NOTE: encode_note(Note(STAMP, 0, 16, (1,), (), Run(b"r" * 16, (b"", b"m"))))
}


class Replicas:
    def __init__(self, **have):
        self.have, self.asked = have, []

    async def cells(self, spot):
        self.asked.append(spot)
        return {name: Cell(cell, STAMP) for name, cell in self.have.get("cells", {}).items()}


def checked(value, more, cells=()):
    replicas = Replicas(cells=dict(cells))
    found = [(HEAD, b"", value, more), (ITEMS, b"k", b"item", None)]
    head, item = asyncio.run(own.checked(replicas, PLACE, found))
    assert item == found[1]
    return head[2:], replicas.asked


@pytest.mark.parametrize(("value", "more"), [(VALUE, MORE), (VALUE, None), (None, MORE), (None, None)])
def test_what_was_written_is_taken_and_nobody_asked(value, more):
    assert checked(value, more) == ((value, more), [])


def flips(cell, begin, end):
    for at in range(begin, end):
        for bit in range(8):
            flipped = bytearray(cell)
            flipped[at] ^= 1 << bit
            yield bytes(flipped)


def test_a_range_tombstone_is_of_its_name_alone():
    """All of it but its two times; and of the stamp, once it is known which one the cell has."""
    for name, cell in list(MORE.items())[:2]:
        assert own.is_well(name, cell, STAMP)
        for flipped in (*flips(cell, 8, 25), *flips(cell, 33, len(cell))):
            assert not own.is_well(name, flipped)
        for flipped in flips(cell, 0, 8):
            assert not own.is_well(name, flipped, STAMP)
        for end in range(len(cell)):
            assert not own.is_well(name, cell[:end])
        assert not own.is_well(b"x" * 16, cell)


def test_of_a_head_and_a_note_what_can_never_have_been():
    for flipped in flips(VALUE, 0, 8):
        assert not own.is_well(b"", flipped, STAMP)
    for bad in (b"", VALUE[:-1], VALUE + b"\0", VALUE[:8] + b"\x04" + VALUE[9:], b"\x04" + VALUE[1:]):
        assert not own.is_well(b"", bad)
    for end in range(len(MORE[NOTE])):
        assert not own.is_well(NOTE, MORE[NOTE][:end])


@pytest.mark.parametrize("name", [b"", *MORE])
def test_a_damaged_cell_is_had_from_another_replica_or_the_record_is_refused(name):
    cells = {b"": VALUE, **MORE}
    broken = cells | {name: b"\xff" + cells[name][1:]}
    value = broken.pop(b"")
    spot = Spot(LWW, PLACE, HEAD, b"", 0, (*PLACE, HEAD, b""))
    assert checked(value, broken, cells) == ((VALUE, MORE), [spot])
    for gone in ({}, {name: None}):
        with pytest.raises(ChecksumMismatch) as told:
            checked(value, broken, gone)
        assert told.value.metadata == {"record": b"record".hex()}
