"""The watermark never passes what is under way, in whatever order work ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.kafka.watermark import Watermark


@given(st.permutations(range(12)), st.integers(0, 3))
def test_n04_it_is_behind_the_first_that_is_not_done(order, gap):
    mark = Watermark(5)
    offsets = [5 + n * (gap + 1) for n in range(12)]  # compaction and markers leave gaps
    for offset in offsets:
        mark.begin(offset)
    done = set()
    for index in order:
        done.add(offsets[index])
        mark.end(offsets[index])
        left = [offset for offset in offsets if offset not in done]
        assert mark.at <= (left[0] if left else offsets[-1] + 1)
        assert not any(offset >= mark.at for offset in done if not left or offset < left[0])
    assert mark.at == offsets[-1] + 1 and not mark.waiting


def test_what_was_begun_is_not_begun_again():
    mark = Watermark(0)
    mark.begin(3)
    with pytest.raises(ValueError, match="begun already"):
        mark.begin(3)
    mark.nothing_to(9)
    assert mark.at == 0, "3 is under way"
    mark.end(3)
    mark.nothing_to(9)
    assert mark.at == 9
