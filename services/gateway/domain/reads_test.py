"""Counting reads: exactly while there is room, and never losing what is read much when there is not."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.reads import ReadCounts


def test_reads_are_counted_by_view_and_page_until_they_are_taken():
    counts = ReadCounts()
    for fresh in (True, True, False):
        counts.count("html", "w/page/A", fresh)
    counts.count("summary", "w/page/A", True)
    taken = counts.take()
    assert (taken["html"]["w/page/A"].reads, taken["html"]["w/page/A"].fresh) == (3, 2)
    assert taken["summary"]["w/page/A"].reads == 1
    assert counts.take() == {} and counts.let_go == 0


def test_a_flood_of_names_that_are_read_once_never_hides_the_pages_that_are_read_much():
    counts = ReadCounts(capacity=100)
    for number in range(50_000):
        counts.count("html", f"once/{number}", True)
        if number % 5 == 0:
            counts.count("html", f"often/{number // 5 % 10}", True)
    taken = counts.take()["html"]
    assert {f"often/{n}" for n in range(10)} <= taken.keys() and len(taken) <= 100
    assert sum(tally.reads for tally in taken.values()) + counts.let_go == 60_000


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans())), st.integers(1, 10))
def test_memory_is_bounded_and_no_read_is_invented_or_unaccounted_for(reads, capacity):
    counts = ReadCounts(capacity=capacity)
    for name, fresh in reads:
        counts.count("v", str(name), fresh)
        assert len(counts._views["v"].tallies) <= 2 * capacity
    true, true_fresh = Counter(str(n) for n, _ in reads), Counter(str(n) for n, fresh in reads if fresh)
    taken = counts.take().get("v", {})
    assert len(taken) <= capacity
    for name, tally in taken.items():
        assert tally.reads <= true[name] <= tally.rank and tally.fresh <= min(tally.reads, true_fresh[name])
    assert sum(tally.reads for tally in taken.values()) + counts.let_go == len(reads)
