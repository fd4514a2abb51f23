"""Puts of one request that are alike: one row for what is remembered of them, and one for their changes.

    tokens   version 16 · first sequence 8 · count 4 · body 16 each · length 2 of each record · the records
    feed     the head of a change (events.py) with the flag of a run, its count, and the media type's length where a
             change has its record's; then the media type · created 1 each · size 4 each · length 2 of each record ·
             the records

Columns, because they are written for each request and read for few: what a record costs here is a join. The key of the
row of changes is the last one's, so that the first row at or behind any sequence is the one that holds it.
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from services.storage.domain.feed import ChangeEvent, ItemChange
from services.storage.domain.model import Outcome
from services.storage.store import events, layout
from services.storage.store.flat import Row, token_row
from services.storage.store.kv import Family

_TOKENS: Final = struct.Struct(">16sQI")
_BODY: Final = 16


class Run(NamedTuple):
    """What was put: in columns, but for the version that all have."""

    version: bytes
    records: Sequence[bytes]
    bodies: Sequence[bytes]
    created: Sequence[bool]
    sizes: Sequence[int]


def token_rows(head: bytes, run: Run, first: int, *, apart: bool) -> list[Row]:
    """The rows by which retries of the puts are known; ``first`` is the sequence of the first one's change and ``head``
    what the keys of their tokens have in common. ``apart``: each has a row of its own."""
    records, bodies = run.records, run.bodies
    if apart or len(records) == 1:
        return [
            (head + record, token_row(body, Outcome.APPLIED, run.version, 0, sequence))
            for sequence, (record, body) in enumerate(zip(records, bodies, strict=True), first)
        ]
    fixed = _TOKENS.pack(run.version, first, len(records))
    return [(head, b"".join((fixed, *bodies, _lengths(records), *records)))]


def tokens(row: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(record, row of its token as if it were alone) of each."""
    version, first, count = _TOKENS.unpack_from(row)
    at = _TOKENS.size
    records = _records(row, at + count * _BODY, count)
    for sequence, record in enumerate(records, first):
        yield record, token_row(row[at : at + _BODY], Outcome.APPLIED, version, 0, sequence)
        at += _BODY


def remembered(family: Family, keys: Sequence[bytes]) -> list[bytes | None]:
    """The rows of the tokens with these keys, each as if it were alone."""
    heads = list(dict.fromkeys(key[: layout.TOKEN_HEAD] for key in keys))
    found = family.get_many([*keys, *heads])
    held = {head: dict(tokens(row)) for head, row in zip(heads, found[len(keys) :], strict=True) if row is not None}
    rows = found[: len(keys)]
    if held:
        for index, key in enumerate(keys):
            if rows[index] is None and key[: layout.TOKEN_HEAD] in held:
                rows[index] = held[key[: layout.TOKEN_HEAD]].get(key[layout.TOKEN_HEAD :])
    return rows


def change_row(number: int, last: int, run: Run, time_us: int, content_type: str) -> Row:
    """The row of the puts' changes in the feed of a namespace; ``last`` is the sequence of the last one's."""
    records, key, count = run.records, layout.feed_key(number, last), len(run.records)
    if count == 1:
        row = events.encode_plain(records[0], run.version, run.created[0], time_us, content_type, run.sizes[0])
        return key, row
    kind = content_type.encode()
    head = events.run_head(run.version, time_us, count, len(kind))
    sizes = struct.pack(f">{count}I", *run.sizes)
    return key, b"".join((head, kind, bytes(run.created), sizes, _lengths(records), *records))


def first_sequence(key: bytes, row: bytes) -> int:
    """The sequence of the first change in a row of the feed."""
    return layout.feed_sequence(key) + 1 - events.run_count(row)


def changes(row: bytes) -> list[ChangeEvent]:
    """The changes in a row of the feed, one or a run."""
    if not events.is_run(row):
        return [events.decode(row)]
    version, time_us, count, kind_size = events.parse_run(row)
    at = events.HEAD_SIZE + kind_size
    kind = row[events.HEAD_SIZE : at].decode()
    created = row[at : at + count]
    at += count
    sizes = struct.unpack_from(f">{count}I", row, at)
    records = _records(row, at + 4 * count, count)
    return [
        ChangeEvent(record, version, (ItemChange(b"", False, kind, size),), 1, bool(new), False, time_us, ())
        for record, new, size in zip(records, created, sizes, strict=True)
    ]


def change(family: Family, number: int, sequence: int) -> ChangeEvent | None:
    """One change of a namespace's feed; None when it is no longer kept."""
    found = family.first(layout.prefix(number), start=layout.feed_key(number, sequence))
    if found is None:
        return None
    at = sequence - first_sequence(*found)
    return changes(found[1])[at] if at >= 0 else None


def _lengths(records: Sequence[bytes]) -> bytes:
    return struct.pack(f">{len(records)}H", *map(len, records))


def _records(row: bytes, at: int, count: int) -> Iterator[bytes]:
    """The records whose lengths begin at ``at``."""
    lengths = struct.unpack_from(f">{count}H", row, at)
    ends = accumulate(lengths, initial=at + 2 * count)
    return (row[start:end] for start, end in pairwise(ends))
