"""Identifiers sort by time, differ from one another, and repeat under a seed."""

import os
import random
import uuid

import pytest

from libs.clock.clock import MonotoneMicros
from libs.clock.virtual import VirtualClock
from libs.ids.ids import Versions, nonce, pack_version, request_id, unpack_version


def test_request_ids_are_uuids_of_version_7():
    clock = VirtualClock(start_ns=1_700_000_000_123_000_000)
    ids = [request_id(clock) for _ in range(2_000)]
    assert len(set(ids)) == 2_000
    for text in ids:
        parsed = uuid.UUID(text)
        assert parsed.version == 7 and parsed.variant == uuid.RFC_4122
        assert parsed.int >> 80 == 1_700_000_000_123
    clock.set_wall(1_700_000_000_124_000_000)
    assert request_id(clock) > max(ids)


def test_a_seed_repeats_them():
    clock = VirtualClock()
    assert request_id(clock, random.Random(3).randbytes) == request_id(clock, random.Random(3).randbytes)
    assert nonce(random.Random(3).randbytes) == nonce(random.Random(3).randbytes)
    assert len(nonce()) == 16 and nonce() != nonce()


def test_versions_compare_as_their_pairs():
    rng = random.Random(5)
    pairs = [
        (
            rng.getrandbits(rng.choice([1, 8, 33, 64])),
            rng.getrandbits(rng.choice([1, 8, 64])),
        )
        for _ in range(500)
    ]
    assert [unpack_version(version) for version in sorted(pack_version(*pair) for pair in pairs)] == sorted(pairs)


@pytest.mark.parametrize("pair", [(-1, 0), (0, -1), (1 << 64, 0), (0, 1 << 64)])
def test_numbers_beyond_64_bits_are_refused(pair):
    with pytest.raises(ValueError, match="64 bits"):
        pack_version(*pair)


@pytest.mark.parametrize("length", [0, 15, 17])
def test_other_lengths_are_refused(length):
    with pytest.raises(ValueError, match=f"16 bytes: got {length}"):
        unpack_version(os.urandom(length))


def test_versions_ascend_though_the_clock_goes_back():
    clock = VirtualClock()
    versions = Versions(MonotoneMicros(clock))
    first = versions.next()
    clock.set_wall(clock.time_ns() - 10**12)
    second = versions.next()
    assert second > first
    far = pack_version(unpack_version(second)[0] + 1_000, 7)
    assert versions.after(far) > far
    assert versions.after(first) > far
