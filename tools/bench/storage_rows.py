"""The storage bench's second peer on a cluster: the driver alone, given the rows and requests that ours make of a step.

A step is so many new records of an LWW namespace, in requests one after the other: their own cells are read, the change
is announced in the feed with their keys in the index, the records are written three to a request (as many as a node
takes without a warning), the announcement is settled behind the answer's back. Of what decides, checks and remembers
there is nothing: what ours takes beyond this is Python and gRPC, what this takes beyond one cell is the promises'.
"""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from cassandra import ConsistencyLevel
from cassandra.query import BatchStatement, BatchType

from libs.cassandra import binding
from tools.bench.driver_alone import After, Then

STEP: Final = 16
"""Single puts that share a step when 64 are under way at two servers: 15 of 64, measured."""
_TOGETHER: Final = 3
"""Records of 1 KiB that are written by one request."""
_BESIDE: Final = 24
"""Keys of the index that go with the announcement of a hundred; of few all do."""
_SHARDS: Final = 8
_SPACE: Final = 1
_SLOT_US: Final = 300_000_000
_TTL_S: Final = 129_660
_CELL_BYTES, _HEAD_BYTES, _TOKEN_BYTES, _WORD_BYTES, _EVENT_BYTES = 39, 25, 53, 16, 63
"""What a record has beside its value, in bytes: as a server writes it."""
_RECORD: Final = "WHERE space = ? AND record = ? AND kind = ? AND key = ?"
_COMPACTED: Final = "WITH compaction = {'class': 'UnifiedCompactionStrategy'}"
_TABLES: Final = (
    "lww (space int, record blob, kind tinyint, key blob, value blob, more map<blob, blob>,"
    " PRIMARY KEY ((space, record), kind, key))",
    "record_index (space int, shard smallint, record blob, PRIMARY KEY ((space, shard), record))",
    "feed (space int, lane bigint, slot bigint, seq bigint, records blob, mutation blob, events blob,"
    " PRIMARY KEY ((space, lane, slot), seq))",
)

Write = tuple[Any, Sequence[Any]]


class Rows:
    """Steps of one session. All but the making is of the driver's thread."""

    def __init__(self, session: Any, value_bytes: int, lost: Callable[[BaseException], None]) -> None:
        """``lost`` is told why a request failed."""
        for table in _TABLES:
            session.execute(f"CREATE TABLE IF NOT EXISTS {table} {_COMPACTED}")
        self._session = session
        self._lost = lost
        self._read = session.prepare(
            "SELECT record, kind, key, value, more FROM lww WHERE space = ? AND record IN ? AND (kind, key) IN ?"
        )
        self._index = session.prepare("INSERT INTO record_index (space, shard, record) VALUES (?, ?, ?)")
        self._intend = session.prepare(
            "INSERT INTO feed (space, lane, slot, seq, records, mutation) VALUES (?, ?, ?, ?, ?, ?)"
        )
        self._settle = session.prepare(
            "UPDATE feed SET events = ? WHERE space = ? AND lane = ? AND slot = ? AND seq = ?"
        )
        self._put = session.prepare(f"UPDATE lww USING TIMESTAMP ? SET value = ? {_RECORD}")
        self._remember = session.prepare(f"UPDATE lww USING TIMESTAMP ? AND TTL ? SET value = ?, more[?] = ? {_RECORD}")
        made = (self._index, self._intend, self._settle, self._put, self._remember)
        self._encode = {id(prepared): binding.encoders(prepared) for prepared in made}
        self._value = os.urandom(value_bytes + _CELL_BYTES)
        self._lane = int.from_bytes(os.urandom(7), "big")
        self._numbers = itertools.count(time.time_ns() // 1000)

    def step(self, names: Sequence[bytes], then: Then) -> None:
        """Writes new records; ``then`` is called when they are written."""
        number = next(self._numbers)
        feed = (_SPACE, self._lane, number // _SLOT_US, number)
        intent = (self._intend, (*feed, b"".join(names), bytes(24 * len(names))))
        found_by: list[Write] = [(self._index, (_SPACE, at % _SHARDS, name)) for at, name in enumerate(names)]
        puts = [self._writes(name, number) for name in names]
        settle = (self._settle, (bytes(_EVENT_BYTES * len(names)), *feed))

        def announce() -> None:
            requests: list[list[Write]] = [[intent, *found_by[:_BESIDE]]]
            if found_by[_BESIDE:]:
                requests.append(found_by[_BESIDE:])
            self._all(requests, write)

        def write() -> None:
            pieces = [puts[at : at + _TOGETHER] for at in range(0, len(puts), _TOGETHER)]
            self._all([[one for put in piece for one in put] for piece in pieces], settled)

        def settled() -> None:
            self._all([[settle]], lambda: None)
            then()

        self._send(self._read.bind((_SPACE, list(names), [(0, b"")])), announce)

    def _writes(self, name: bytes, number: int) -> list[Write]:
        return [
            (self._put, (number, self._value, _SPACE, name, 1, b"")),
            (self._put, (number, bytes(_HEAD_BYTES), _SPACE, name, 0, b"")),
            (
                self._remember,
                (
                    *(number, _TTL_S, bytes(_TOKEN_BYTES), bytes(_WORD_BYTES), bytes(_EVENT_BYTES)),
                    *(_SPACE, name, 4, bytes(24)),
                ),
            ),
        ]

    def _all(self, requests: Sequence[Sequence[Write]], then: Then) -> None:
        """One batch for each of the requests; ``then`` after the last answer."""
        one = After(len(requests), then)
        for writes in requests:
            batch = BatchStatement(BatchType.UNLOGGED, consistency_level=ConsistencyLevel.LOCAL_QUORUM)
            for prepared, values in writes:
                binding.add(batch, prepared, self._encode[id(prepared)], values)
            self._send(batch, one)

    def _send(self, statement: Any, then: Then) -> None:
        asked = self._session.execute_async(statement)
        asked.add_callbacks(self._sent, self._failed, (then,), errback_args=(then,))

    @staticmethod
    def _sent(_: Any, then: Then) -> None:
        then()

    def _failed(self, error: BaseException, then: Then) -> None:
        self._lost(error)
        then()
