"""The cache of names never answers a wrong number, keeps what fits, and stays within its bound as it grows."""

import numpy as np

from services.propagation.store.name_cache import NameCache

MIB = 1 << 20


def _numbers(first: int, count: int) -> dict[bytes, int]:
    return dict(zip(_names(first, count), range(first, first + count), strict=True))


def _names(first: int, count: int) -> list[bytes]:
    return [b"wiki/page/%d" % number for number in range(first, first + count)]


def test_what_is_kept_is_right_and_what_is_not_is_unknown_while_the_cache_grows() -> None:
    cache = NameCache(8 * MIB)
    for first in range(0, 40_000, 700):
        names = _names(first, 700)
        assert (cache.find(names) == -1).all()
        cache.put(_numbers(first, 700))
    found = cache.find(_names(0, 40_600))
    assert np.array_equal(found[found >= 0], np.flatnonzero(found >= 0)), "a name has another one's number"
    assert (found >= 0).mean() > 0.95, "there is room for all of them, but for a few crowded buckets"
    assert (cache.find([b"wiki/page/%d/talk" % number for number in range(10_000)]) == -1).all()


def test_more_names_than_fit_leave_the_cache_full_and_never_wrong() -> None:
    cache = NameCache(MIB)
    most = MIB // 16
    for first in range(0, 4 * most, 5_000):
        cache.put(_numbers(first, 5_000))
    found = cache.find(_names(0, 4 * most + 5_000))
    assert np.array_equal(found[found >= 0], np.flatnonzero(found >= 0))
    assert 0.8 * most < (found >= 0).sum() <= most
    assert len(cache) <= most
    newest = np.flatnonzero(found >= 0)
    assert newest.mean() > 2 * most, "older names make room, not newer ones"


def test_names_that_share_the_hash_are_told_apart() -> None:
    class Same(bytes):
        def __hash__(self) -> int:
            return 77

    cache = NameCache(MIB)
    first, second, zero = Same(b"one"), Same(b"two"), b""
    cache.put({first: 5, zero: 6})
    assert cache.find([first, second, zero]).tolist() == [5, -1, 6]
    cache.put(_numbers(0, 600))
    assert cache.find([first, second, zero]).tolist() == [5, -1, 6], "they lie with all others now"


def test_no_names_are_no_work() -> None:
    cache = NameCache(0)
    assert cache.find([]).tolist() == []
    cache.put({})
    assert cache.find([b"a"]).tolist() == [-1]
