"""A span of rows: what is known of it is what was put and covered, in any order, whichever way it is scanned."""

from hypothesis import given
from hypothesis import strategies as st

from services.storage.cassandra.partition import Missing, Span

KEYS = [bytes([number]) for number in range(12)]
bound = st.sampled_from(KEYS)


@given(st.lists(st.tuples(bound, st.one_of(st.none(), bound)), max_size=5), st.sets(bound), bound, bound, st.booleans())
def test_a_scan_shows_what_is_known_and_ends_where_it_is_not(intervals, there, start, end, reverse):
    span = Span()
    known = set()
    for low, high in intervals:
        if high is None or low < high:
            span.cover(low, high)
            known |= {key for key in KEYS if low <= key and (high is None or key < high)}
    for key in there & known:
        span.put(key, b"x")
    assert {key for key in KEYS if span.known(key)} == known
    found: list[bytes] = []
    missing = None
    for one in span.scan(start, end, reverse):
        if isinstance(one, Missing):
            missing = one
        else:
            assert missing is None
            found.append(one)
    wanted = sorted((key for key in there & known if start <= key < end), reverse=reverse)
    if missing is None:
        assert found == wanted
        assert all(key in known for key in KEYS if start <= key < end)
    else:
        passed = [key for key in KEYS if start <= key < end and not missing.start <= key < (missing.end or b"\xff")]
        assert all(key in known for key in passed)
        assert found == [key for key in wanted if key in passed]
        edge = missing.start if not reverse else max(key for key in KEYS if key < (missing.end or b"\xff"))
        assert edge not in known or missing.start == missing.end


def test_reading_on_where_a_scan_ended_shows_the_rest():
    for reverse in (False, True):
        span, there = Span(), [b"%02d" % number for number in range(30)]
        found: list[bytes] = []
        for _ in range(100):
            found.clear()
            for one in span.scan(b"05", b"25", reverse):
                if isinstance(one, Missing):
                    left = [key for key in there if one.start <= key and (one.end is None or key < one.end)]
                    piece = left[-3:] if reverse else left[:3]
                    for key in piece:
                        span.put(key, b"x")
                    low, high = one
                    if len(piece) == 3:
                        low, high = (piece[0], high) if reverse else (low, piece[-1] + b"\0")
                    span.cover(low, high)
                    break
                found.append(one)
            else:
                break
        assert found == (there[5:25][::-1] if reverse else there[5:25])


def test_a_copy_does_not_change_what_it_is_of():
    span = Span()
    span.put(b"a", b"1")
    copy = span.fork()
    copy.put(b"a", None)
    copy.put(b"b", b"2")
    copy.cover(b"x", None)
    assert (span.rows, span.absent, span.covered) == ({b"a": b"1"}, set(), [])
    assert copy.known(b"a") and copy.rows == {b"b": b"2"}
