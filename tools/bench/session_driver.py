"""The driver alone, given what a login writes and reads: what its rows cost without our code.

A piece of work is twelve logins at once, as they come together in a server (decision 0149): four unlogged batches of
three logins each, and when all are answered two reads, of the epochs of the twelve subjects and of what the twelve
requests made. No cryptography, nothing is decided, each answer is only counted. Run as a process of its own, as
``storage_driver.py``: the work is called ``login``.
"""

import argparse
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cassandra.query import BatchStatement, BatchType

from tools.bench.driver_alone import After, Flight, Then, connected, serve

KEYSPACE = "logins_alone"
BATCH = 3
"""Logins that the nodes' thresholds let into one batch."""
TOGETHER = 12
"""Logins of one piece of work."""
_LIVES_S = 86_400

_TABLES = (
    "sessions (realm text, handle text, key blob, item blob, head blob static, revision bigint static,"
    " nonce blob static, PRIMARY KEY ((realm, handle), key))",
    "subjects (realm text, subject blob, shard smallint, created_us bigint, handle text, pending blob, key blob,"
    " sealed blob static, mark blob static, PRIMARY KEY ((realm, subject, shard), created_us, handle))",
    "creations (request blob, handle text, subject blob, until_us bigint, PRIMARY KEY ((request), handle))",
    "subject_epochs (realm text, subject blob, datacentre text, counter bigint, raised_us bigint,"
    " PRIMARY KEY ((realm, subject), datacentre))",
)
"""As the service has them, as far as a login goes (services/session/cassandra/migrations)."""
_WRITES = (
    "INSERT INTO sessions (realm, handle, key, item, head, revision, nonce) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " USING TIMESTAMP 1 AND TTL ?",
    "INSERT INTO sessions (realm, handle, key, item) VALUES (?, ?, ?, ?) USING TIMESTAMP 1 AND TTL ?",
    "INSERT INTO subjects (realm, subject, shard, created_us, handle, pending, key) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " USING TIMESTAMP 1 AND TTL ?",
    "INSERT INTO creations (request, handle, subject, until_us) VALUES (?, ?, ?, ?) USING TIMESTAMP 1 AND TTL ?",
)
_EPOCHS = "SELECT subject, datacentre, counter, raised_us FROM subject_epochs WHERE realm = ? AND subject IN ?"
_CREATIONS = "SELECT request, handle, subject, until_us FROM creations WHERE request IN ?"

_REALM = "bench"
_HEAD, _ITEM, _KEY = os.urandom(300), os.urandom(60), os.urandom(61)
"""Of the size that they have in the service."""


class Login(NamedTuple):
    """One login: its session, its subject as it is stored, its request."""

    handle: str
    subject: bytes
    request: bytes

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The values of its writes, one of _WRITES after the other."""
        now_us = time.time_ns() // 1000
        yield (_REALM, self.handle, b"", b"", _HEAD, 1, secrets.token_bytes(8), _LIVES_S)
        yield (_REALM, self.handle, secrets.token_bytes(17), _ITEM, _LIVES_S)
        yield (_REALM, self.subject, 0, now_us, self.handle, b"", _KEY, _LIVES_S)
        yield (self.request, self.handle, self.subject, now_us, _LIVES_S)


def new_login() -> Login:
    """Of a subject of its own."""
    return Login(secrets.token_urlsafe(32), secrets.token_bytes(36), secrets.token_bytes(16))


class Logins:
    """A session of the driver, with the tables and the statements."""

    def __init__(self, address: str) -> None:
        session = self.session = connected(address, KEYSPACE)
        for table in _TABLES:
            session.execute(
                f"CREATE TABLE IF NOT EXISTS {table} WITH compaction = {{'class': 'UnifiedCompactionStrategy'}}"
            )
        self._writes = [session.prepare(cql) for cql in _WRITES]
        self._epochs, self._creations = session.prepare(_EPOCHS), session.prepare(_CREATIONS)
        self._failed: BaseException | None = None

    def run(self, _: str, count: int, width: int) -> dict[str, float]:
        """At least ``count`` logins, about ``width`` of them under way: logins a second, CPU for one, latencies of
        pieces. Raises SystemExit when one failed, or was not there afterwards."""
        pieces = -(-count // TOGETHER)
        flight = Flight(pieces, max(1, width // TOGETHER), self._begin)
        figures = flight.figures(pieces * TOGETHER)
        if self._failed is not None:
            raise SystemExit(f"the driver alone failed: {self._failed}")
        return figures

    def _begin(self, number: int, then: Then) -> None:
        logins = [new_login() for _ in range(TOGETHER)]
        epochs = self._epochs.bind((_REALM, [one.subject for one in logins]))
        creations = self._creations.bind(([one.request for one in logins],))
        written = After(TOGETHER // BATCH, lambda: self._look(epochs, creations, then))
        for first in range(0, TOGETHER, BATCH):
            self._send(self._batch(logins[first : first + BATCH]), written)

    def _look(self, epochs: Any, creations: Any, then: Then) -> None:
        looked = After(2, then)
        self._send(epochs, looked)
        self._send(creations, looked, rows=TOGETHER)

    def _batch(self, logins: Sequence[Login]) -> BatchStatement:
        batch = BatchStatement(BatchType.UNLOGGED)
        for login in logins:
            for statement, values in zip(self._writes, login.rows(), strict=True):
                batch.add(statement, values)
        return batch

    def _send(self, statement: Any, then: Then, rows: int = 0) -> None:
        """``rows``: of the answer."""

        def sent(found: Any) -> None:
            if len(found or ()) != rows:
                self._failed = ValueError("what was written is not there")
            then()

        def lost(error: BaseException) -> None:
            self._failed = error
            then()

        self.session.execute_async(statement).add_callbacks(sent, lost)


def main() -> int:
    """Answers each line of standard input by one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    logins = Logins(parser.parse_args().address)
    serve(logins.session, logins.run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
