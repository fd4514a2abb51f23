"""Where items lie: the note reads back, every key has one bucket, a range goes through them in order."""

import random

import pytest

from services.storage.cassandra.lww.buckets import Note, Run, decode_note, decode_starts, encode_note, encode_starts
from services.storage.cassandra.lww.spreading import Marks

RUN = Run(b"r" * 16, (b"", b"b", b"bb", b"d"))


@pytest.mark.parametrize(
    "note",
    [
        Note(1, 0, 16, (1,), (), None, RUN),
        Note(2, 3, 18, (), (16, 17), RUN, None, Run(b"s" * 16, (b"",))),
        Note(4, 5, 127, (), (), RUN),
    ],
)
def test_the_note_reads_back(note):
    assert decode_note(encode_note(note)) == note
    assert decode_starts(RUN.name, encode_starts(RUN)) == RUN


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("start", "end"), [(b"", None), (b"a", b"bba"), (b"bb", b"d"), (b"c", b"c\0"), (b"z", None)])
def test_pieces_of_a_range_are_all_of_it_in_order(start, end, reverse):
    wanted = [key for key in (b"", b"a", b"b", b"ba", b"bb", b"bba", b"c", b"d", b"z") if key >= start]
    wanted = [key for key in wanted if end is None or key < end]
    found = []
    for _ in range(len(RUN.starts)):
        bucket, low, high = RUN.piece(start, end, reverse=reverse)
        mine = [key for key in wanted if key >= low and (high is None or key < high)]
        assert {RUN.of(key) for key in mine} <= {bucket}
        found += reversed(mine) if reverse else mine
        if (low == start) if reverse else (high == end):
            break
        start, end = (start, low) if reverse else (high, end)
    assert found == (wanted[::-1] if reverse else wanted)


@pytest.mark.parametrize("many", [10, 100, 20_000])
@pytest.mark.parametrize("runs", [1, 2])
def test_a_record_is_cut_into_pieces_about_equal(many, runs):
    marks, sizes = Marks(), {b"%06d" % number: 10 + number % 7 for number in range(many)}
    for run in range(runs):
        for key in sorted(sizes)[run::runs]:
            marks.add(key, sizes[key])
    cuts = marks.cuts(5)
    assert marks.items == many and cuts[0] == b"" and list(cuts) == sorted(set(cuts)) and len(cuts) == 5
    run = Run(b"", cuts)
    held = dict.fromkeys(cuts, 0)
    for key, size in sizes.items():
        held[run.of(key)] += size
    assert max(held.values()) <= 1.5 * sum(sizes.values()) / 5 + 20


def test_one_large_item_is_no_reason_to_cut_twice_at_its_key():
    marks = Marks()
    for key in random.Random(1).sample([b"a", b"b", b"c"], 3):
        marks.add(key, 1000 if key == b"b" else 1)
    assert marks.cuts(8) in {(b"", b"b", b"c"), (b"", b"c")}
