"""Rows of the feed as changes: one, or several that were announced together."""

import struct

import pytest

from services.storage.cassandra.announced import VOID, Announced, change_at, changes, packed, unpacked
from services.storage.domain.errors import ChecksumMismatch


def row(sequence, *, record=None, event=None, void=None, records=None, token=None, events=None, told=None):
    return sequence, record, event, void, records, token, events, told


@pytest.mark.parametrize("values", [[], [b""], [None], [b"a", None, b"", b"\0" * 300, None]])
def test_values_come_back(values):
    assert unpacked(packed(values)) == values


def test_a_row_of_one_change():
    assert list(changes(row(5))) == []
    assert list(changes(row(5, record=b"r"))) == [Announced(5, b"r", None, False)]
    assert list(changes(row(5, record=b"r", event=b"e", token=b"t"))) == [Announced(5, b"r", b"e", False, 0, b"t")]
    assert list(changes(row(5, record=b"r", void=True))) == [Announced(5, b"r", None, True)]


def test_a_row_of_several():
    names = packed([b"a", b"b", b"c"])
    opened = list(changes(row(9, records=names, token=b"t")))
    assert opened == [Announced(7 + at, name, None, False, 9, b"t") for at, name in enumerate((b"a", b"b", b"c"))]
    told = {7: VOID, 8: b"by a reader"}
    first, second, third = changes(row(9, records=names, token=b"t", told=told))
    assert (first.event, first.void) == (None, True) and second.event == b"by a reader"
    assert (third.event, third.void) == (None, False)
    # What the writer settled counts before what others told; of the first ones it may have known nothing.
    settled = packed([b"B", None])
    first, second, third = changes(row(9, records=names, token=b"t", events=settled, told={7: b"A", 8: b"doubt"}))
    assert (first.event, second.event, third.event) == (b"A", b"B", None)


def test_a_row_of_several_with_tokens_of_their_own():
    tokens = [bytes([at]) * 24 for at in range(3)]
    found = list(changes(row(9, records=packed([b"a", b"b", b"c"]), token=b"".join(tokens))))
    assert [(change.sequence, change.record, change.token) for change in found] == [
        (7, b"a", tokens[0]),
        (8, b"b", tokens[1]),
        (9, b"c", tokens[2]),
    ]


def test_a_change_is_found_in_the_first_row_behind_it():
    rows = [row(9, records=packed([b"a", b"b", b"c"]), token=b"t")]
    assert [sequence for sequence in range(5, 11) if change_at(rows, sequence) is not None] == [7, 8, 9]
    assert change_at([], 5) is None
    assert change_at([row(6, record=b"r", event=b"e")], 5) is None


def test_what_is_cut_is_not_taken_for_less():
    value = packed([b"first", None, b"last"])
    for end in range(1, len(value)):
        if end in (len(packed([b"first"])), len(packed([b"first", None]))):
            continue
        with pytest.raises(struct.error):
            unpacked(value[:end])


def test_damaged_events_are_none_and_damaged_names_are_told():
    names = packed([b"a", b"b"])
    for damaged in (b"\xff", packed([b"A", b"B"])[:-1], packed([b"A", b"B", b"C"]), b"\xff" + packed([b"A"])[1:]):
        found = list(changes(row(9, records=names, token=b"t", events=damaged, told={8: b"told"})))
        assert [(change.record, change.event) for change in found] == [(b"a", b"told"), (b"b", None)]
    with pytest.raises(ChecksumMismatch) as told:
        list(changes(row(9, records=names[:-1], token=b"t")))
    assert told.value.metadata == {"sequence": "9"}
    # Tokens that are not one for each are one for all, as far as is known.
    assert [one.token for one in changes(row(9, records=names, token=bytes(71)))] == [bytes(71)] * 2
