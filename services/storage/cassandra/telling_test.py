"""A damaged event of the feed: had from another replica, else told in doubt, by the name of its record."""

import asyncio
from typing import Any

import pytest

from services.storage.cassandra import telling
from services.storage.cassandra.announced import packed
from services.storage.domain.feed import ChangeEvent, ItemChange
from services.storage.store import events

SEQUENCE, LANE = 1_700_000_000_000_000, 77
EVENT = ChangeEvent(
    b"record",
    bytes(range(16)),
    (ItemChange(b"k", False, "text/plain", 5), ItemChange(b"l", True, "", 0)),
    2,
    True,
    False,
    5,
    (("by", "me"),),
)
ROW = events.encode(EVENT)


@pytest.fixture
def replicas(monkeypatch):
    """What each replica has of the row, and what was asked."""
    have, asked = [], []

    async def everywhere(datacentres, read, values):
        asked.append((read, values))
        for row in have:
            yield row

    monkeypatch.setattr(telling, "everywhere", everywhere)
    return have, asked


def told(event, record=b"record"):
    nowhere: Any = None
    return asyncio.run(telling.told(nowhere, 7, LANE, SEQUENCE, record, event))


def single(event):
    return SEQUENCE, b"record", event, None, None, None, None, None


def test_what_is_whole_is_told_and_nobody_asked(replicas):
    assert told(ROW) == EVENT and replicas[1] == []


@pytest.mark.parametrize("damaged", [b"", b"\xff", ROW[:-1], ROW[:40], ROW.replace(b"record", b"recorD")])
def test_a_damaged_event_is_had_from_the_replica_that_has_it_whole(replicas, damaged):
    have, asked = replicas
    have += [single(damaged), single(None), single(ROW)]
    assert told(damaged) == EVENT
    assert asked == [("change", (7, LANE, SEQUENCE // 300_000_000, SEQUENCE))]
    names, settled = packed([b"record", b"other"]), packed([ROW, b"o"])
    have[:] = [(SEQUENCE + 1, None, None, None, names, b"t", settled, None)]
    assert told(damaged) == EVENT


def test_no_flipped_bit_breaks_the_feed_and_none_names_another_record(replicas):
    have, _ = replicas
    for at in range(len(ROW)):
        for bit in range(8):
            damaged = bytearray(ROW)
            damaged[at] ^= 1 << bit
            have[:] = [single(bytes(damaged))]
            found = told(bytes(damaged))
            assert found.record == b"record"
            if found.in_doubt and found.items == ():
                assert found.version[:8] == SEQUENCE.to_bytes(8, "big") and found.time_us == SEQUENCE
