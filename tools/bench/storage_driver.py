"""The storage bench's peer on a cluster: the driver alone, as a team would use it without a service in between.

Prepared statements on one small table, sent by the driver's own callbacks, so many under way; the next is sent from the
callback of one that ended. A batch of records is as many statements sent at once, for they are of different partitions;
a batch of items is one unlogged batch of one partition. With ``--mode CAS`` writes of records are conditional (IF NOT
EXISTS). ``put_rows`` and ``batch_rows`` are records with all the rows that ours have (``storage_rows.py``). Run as a
process of its own: each line of standard input names a work and how often; each line of the output is what it took.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

from cassandra.query import BatchStatement, BatchType

from tools.bench.driver_alone import After, Flight, Then, connected, serve
from tools.bench.storage_rows import STEP, Rows

KEYSPACE = "driver_alone"


class Driver:
    """A session, its statements, and what has been written."""

    def __init__(self, address: str, mode: str, value_bytes: int, item_bytes: int, batch: int) -> None:
        session = self.session = connected(address, KEYSPACE)
        session.execute("CREATE TABLE IF NOT EXISTS records (record blob PRIMARY KEY, value blob)")
        columns = "record blob, key blob, value blob, PRIMARY KEY (record, key)"
        session.execute(f"CREATE TABLE IF NOT EXISTS items ({columns})")
        self._conditional = mode == "CAS"
        condition = " IF NOT EXISTS" if self._conditional else ""
        self._put = session.prepare(f"INSERT INTO records (record, value) VALUES (?, ?){condition}")
        self._get = session.prepare("SELECT value FROM records WHERE record = ?")
        self._item = session.prepare("INSERT INTO items (record, key, value) VALUES (?, ?, ?)")
        self._value, self._small = os.urandom(value_bytes), os.urandom(item_bytes)
        self._keys = [b"item-%05d" % number for number in range(batch)]
        self._batch = batch
        self._records = 0
        self._wide = 0
        self._failed: BaseException | None = None
        self._rows: Rows | None = None
        self._stepped = itertools.count()

    def run(self, work: str, count: int, width: int) -> dict[str, float]:
        """``count`` pieces of ``work``, ``width`` under way: items and calls a second, CPU and latencies."""
        begin: dict[str, Callable[[], Callable[[int, Then], None]]] = {
            "put": self._puts,
            "get": self._gets,
            "batch_records": self._many,
            "batch_items": self._items,
            "put_rows": lambda: self._steps(STEP),
            "batch_rows": lambda: self._steps(self._batch),
        }
        items = count * (STEP if work == "put_rows" else self._batch if work.startswith("batch") else 1)
        flight = Flight(count, width, begin[work]())
        figures = flight.figures(items)
        if self._failed is not None:
            raise SystemExit(f"the driver alone failed: {self._failed}")
        if work == "put":
            self._records += count
        elif work == "batch_records":
            self._records += count * self._batch
        elif work == "batch_items":
            self._wide += count
        return figures

    def _send(self, statement: Any, then: Then, *, answered: bool) -> None:
        """``answered``: there must be a row, and it must not begin with false."""
        asked = self.session.execute_async(statement)
        asked.add_callbacks(self._sent, self._lost, (then, answered), errback_args=(then,))

    def _sent(self, rows: Any, then: Then, answered: bool) -> None:
        if answered and not (rows and rows[0][0]):
            self._failed = ValueError("a write was not applied, or a record is not there")
        then()

    def _lost(self, error: BaseException, then: Then) -> None:
        self._failed_by(error)
        then()

    def _failed_by(self, error: BaseException) -> None:
        self._failed = error

    def _puts(self) -> Callable[[int, Then], None]:
        first = self._records
        return lambda number, then: self._write(first + number, then)

    def _write(self, number: int, then: Then) -> None:
        self._send(self._put.bind((b"record-%09d" % number, self._value)), then, answered=self._conditional)

    def _gets(self) -> Callable[[int, Then], None]:
        there = max(1, self._records)

        def begin(number: int, then: Then) -> None:
            self._send(self._get.bind((b"record-%09d" % (number * 7919 % there),)), then, answered=True)

        return begin

    def _many(self) -> Callable[[int, Then], None]:
        first, batch = self._records, self._batch

        def begin(number: int, then: Then) -> None:
            one = After(batch, then)
            for record in range(first + number * batch, first + (number + 1) * batch):
                self._write(record, one)

        return begin

    def _steps(self, size: int) -> Callable[[int, Then], None]:
        rows = self._rows
        if rows is None:
            rows = self._rows = Rows(self.session, len(self._value), self._failed_by)
        return lambda _, then: rows.step([b"record-%09d" % next(self._stepped) for _ in range(size)], then)

    def _items(self) -> Callable[[int, Then], None]:
        first = self._wide

        def begin(number: int, then: Then) -> None:
            batch = BatchStatement(BatchType.UNLOGGED)
            record = b"wide-%09d" % (first + number)
            for key in self._keys:
                batch.add(self._item, (record, key, self._small))
            self._send(batch, then, answered=False)

        return begin


def main() -> int:
    """Answers each line of standard input by one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--mode", choices=("LWW", "CAS"), required=True)
    parser.add_argument("--value-bytes", type=int, required=True)
    parser.add_argument("--item-bytes", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    asked = parser.parse_args()
    driver = Driver(asked.address, asked.mode, asked.value_bytes, asked.item_bytes, asked.batch)
    serve(driver.session, driver.run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
