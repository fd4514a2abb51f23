"""The roots of a copy: each part has all of them, and what was counted of them is counted once.

A root that the engine made itself has the id by which it was told before (`late/<shard>/<sequence>`), in all parts.
"""

from dataclasses import replace

import numpy as np

from services.propagation.domain.copies import Copy
from services.propagation.domain.records import (
    FANOUT,
    LATE_PREFIX,
    ROOT,
    TALLY,
    Fanout,
    RootRecord,
    Tally,
    put_id,
    read_tally,
)
from services.propagation.store.interface import Commit

_WINDOW = 1_000


def roots(copy: Copy, commit: Commit, at: bytes) -> bytes | None:
    """Tallies and names."""
    last = None
    for key, value in copy.store.records(ROOT, start=at, limit=_WINDOW):
        record = RootRecord.unpack(key, value)
        told = record
        if record.change.id == f"{LATE_PREFIX}{record.sequence:x}":
            told = replace(record, change=replace(record.change, id=_told(copy, record.sequence)))
            put_id(commit, told.change.id, record.sequence, b"")
        if not copy.is_first:
            told = replace(told, left=0)
        if told != record:
            commit.put_record(ROOT, key, told.pack())
        tally = _tally(copy, record, read_tally(copy.store, record.sequence))
        commit.put_record(TALLY, key, tally.pack())
        last = key
    return None if last is None else last + b"\0"


def _told(copy: Copy, sequence: int) -> str:
    return f"{LATE_PREFIX}{copy.parent}/{sequence:x}"


def _tally(copy: Copy, record: RootRecord, tally: Tally) -> Tally:
    """What was done is counted by the first of the parts; each has its own dead letters. How much is pending is derived
    from the edges (recovery.py), and so is the total of an unfinished root."""
    dead = copy.dead.get(record.sequence, {})
    failed = dead.get(copy.part.number, 0)
    if not copy.is_first:
        return Tally(total=failed, failed=failed, levels=tally.levels)
    if not record.state.finished:
        return replace(tally, failed=failed, total=tally.done + failed)
    elsewhere = min(tally.failed, sum(dead.get(child, 0) for child in copy.children if child != copy.part.number))
    return replace(tally, failed=tally.failed - elsewhere, total=tally.total - elsewhere)


def fanouts(copy: Copy, commit: Commit, at: bytes) -> bytes | None:
    """Those that name their items keep this part's."""
    last = None
    for key, value in copy.store.records(FANOUT, start=at, limit=_WINDOW):
        noted = Fanout.unpack(key, value)
        if noted.listed:
            mine = noted.inputs[copy.parts[noted.inputs] == copy.part.number]
            if len(mine) < len(noted.inputs):
                replace(noted, inputs=np.ascontiguousarray(mine)).put(commit)
        last = key
    return None if last is None else last + b"\0"
