"""Packed fields read back as they were, and hostile bytes are refused."""

import random

import numpy as np
import pytest

from wellspring_client import packed


@pytest.mark.parametrize("ids", [[], [0], [5], [0, 1, 2], [2**32 - 1], [0, 2**32 - 1], [3, 10, 11, 4_000_000_000]])
def test_ids(ids):
    assert packed.decode_ids(packed.encode_ids(ids)).tolist() == ids
    assert packed.encode_ids(np.array(ids, dtype=np.uint32)) == packed.encode_ids(ids)


def test_many_ids():
    rng = random.Random(2)
    for _ in range(100):
        ids = sorted(rng.sample(range(2**32), rng.randrange(1, 2_000)))
        assert packed.decode_ids(packed.encode_ids(ids)).tolist() == ids


@pytest.mark.parametrize("ids", [[1, 1], [2, 1], [-1], [2**32], [-5, 3], [[1, 2]]])
def test_what_are_no_ids(ids):
    with pytest.raises(ValueError, match="ids are"):
        packed.encode_ids(ids)


@pytest.mark.parametrize("data", [b"1", b"12345", b"\1\0\0\0\0\0\0\0", b"\xff\xff\xff\xff\1\0\0\0"])
def test_hostile_ids(data):
    with pytest.raises(ValueError, match="packed"):
        packed.decode_ids(data)


def test_counts_keep_their_order():
    assert packed.decode_counts(packed.encode_counts([3, 0, 3, 2**32 - 1])).tolist() == [3, 0, 3, 2**32 - 1]
    for wrong in ([-1], [2**32]):
        with pytest.raises(ValueError, match="from 0"):
            packed.encode_counts(wrong)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b", "ß/日本"], ["x y"]])
def test_names(names):
    assert packed.decode_names(packed.encode_names(names)) == names


@pytest.mark.parametrize("names", [[""], ["a", ""], ["a\0b"], ["a\nb"], ["\x7f"]])
def test_what_are_no_names(names):
    with pytest.raises(ValueError, match="names"):
        packed.encode_names(names)


@pytest.mark.parametrize("data", [b"\0", b"a\0", b"\0a", b"a\0\0b", b"\xff", b"a\0\xc3", b"a\tb", b"a\x1fb"])
def test_hostile_names(data):
    with pytest.raises(ValueError, match="names"):
        packed.decode_names(data)


def test_hashes():
    hashes = [bytes([number]) * 16 for number in range(5)]
    assert packed.decode_hashes(packed.encode_hashes(hashes)) == hashes
    with pytest.raises(ValueError, match="16 bytes"):
        packed.encode_hashes([b"short"])
    with pytest.raises(ValueError, match="got 17"):
        packed.decode_hashes(b"x" * 17)
