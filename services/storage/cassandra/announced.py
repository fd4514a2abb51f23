"""A row of the feed as changes: one, or several that were announced together.

Changes announced together have sequences that follow one another; their row lies at the last. Its records are one
value, and so are the tokens of their mutations (one for all of them, or one for each) and its events once their writer
has settled them. Before that, or instead, each may be told under its own sequence, by whoever found out what became of
it.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from services.storage.domain.errors import ChecksumMismatch

_LENGTH: Final = struct.Struct(">I")
TOKEN_BYTES: Final = 24
"""Of the key under which a mutation is remembered: time and nonce."""
VOID: Final = b""
"""In the place of an event: there will be none."""


class Announced(NamedTuple):
    """A change of the feed. ``row``: the sequence of its row when it is one of several there, else 0. ``token``: the
    key under which its mutation is remembered in the record, with the word of it; empty when it is not. Without an
    event and not void it is open."""

    sequence: int
    record: bytes
    event: bytes | None
    void: bool
    row: int = 0
    token: bytes = b""


def changes(row: Sequence[Any]) -> Iterator[Announced]:
    """The changes of a row: (seq, record, event, void, records, mutation, events, told). Events that are fewer than
    the records are those of the last ones; events that are damaged count as none. Raises ChecksumMismatch when it
    cannot be said which records changed."""
    sequence, record, event, void, records, token, events, told = row
    if records is None:
        if record is not None:
            yield Announced(sequence, record, event, bool(void), 0, token or b"")
        return
    try:
        names = unpacked(records)
    except struct.error:
        raise ChecksumMismatch(
            "a stored row of the feed is damaged: it cannot be said which records changed; metadata.sequence says"
            " which row: watch from now on, and read the records that one follows anew",
            metadata={"sequence": str(sequence)},
        ) from None
    try:
        settled = unpacked(events or b"")
    except struct.error:
        settled = []
    if len(settled) > len(names):
        settled = []
    settled[:0] = [None] * (len(names) - len(settled))
    single: Mapping[int, bytes] = told or {}
    first = sequence - len(names) + 1
    tokens = [token[at : at + TOKEN_BYTES] for at in range(0, len(token), TOKEN_BYTES)]
    for at, name in enumerate(names):
        found = settled[at] if settled[at] is not None else single.get(first + at)
        mine = tokens[at] if len(tokens) == len(names) else token
        yield Announced(first + at, name or b"", found or None, found == VOID, sequence, mine)


def change_at(rows: Sequence[Sequence[Any]], sequence: int) -> Announced | None:
    """The change with a sequence, given the first row from there on."""
    return next((change for row in rows for change in changes(row) if change.sequence == sequence), None)


def packed(values: Sequence[bytes | None]) -> bytes:
    """Several values as one; None for one that is not known."""
    return b"".join(_LENGTH.pack(0) if value is None else _LENGTH.pack(len(value) + 1) + value for value in values)


def unpacked(value: bytes) -> list[bytes | None]:
    """What :func:`packed` made. Raises struct.error for what it did not make."""
    found: list[bytes | None] = []
    at = 0
    while at < len(value):
        length = _LENGTH.unpack_from(value, at)[0]
        at += _LENGTH.size
        found.append(value[at : at + length - 1] if length else None)
        at += max(0, length - 1)
    if at > len(value):
        raise struct.error("the last value is cut")
    return found
