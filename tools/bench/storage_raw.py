"""The storage bench's peer: rocksdict called directly, durable in groups as the service is, with nothing in between.

A put is one write, and one sync makes as many of them durable as the service has in flight; so with batches. Records
and items are single keys: no counts, no tokens, no change feed. Beside that, what these rows cost the engine by itself.
Run as a process of its own; one object on the last line.
"""

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rocksdict

_KEY = b"0000record-%09d"
_ROW_HEAD, _TOKENS_KEY, _TOKEN, _CHANGES_KEY, _CHANGE = bytes(78), b"t%027d", bytes(18), b"c000%08d", bytes(7)
"""Of the size that the service's rows have beside the value; those of tokens and of changes are for each record."""


class Raw:
    """One database in ``folder``, and values of ``value_bytes``."""

    def __init__(self, folder: Path, value_bytes: int, in_flight: int, batch: int) -> None:
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        self._db: Any = rocksdict.Rdict(str(folder), options)
        self._value = os.urandom(value_bytes)
        self._row = _ROW_HEAD + self._value
        self._in_flight = in_flight
        self._batch = batch
        self._next = 0

    def puts(self) -> int:
        """As many single puts as are in flight, and one sync."""
        for number in range(self._next, self._next + self._in_flight):
            self._db[_KEY % number] = self._value
        return self._end(self._in_flight)

    def gets(self) -> int:
        """As many gets of what was put."""
        for number in range(self._in_flight):
            if self._db.get(_KEY % (number * 7919 % self._next)) is None:
                raise SystemExit("rocksdict has lost a key")
        return self._in_flight

    def batches(self) -> int:
        """As many batches, and one sync."""
        for _ in range(self._in_flight):
            batch = rocksdict.WriteBatch(raw_mode=True)
            for number in range(self._next, self._next + self._batch):
                batch.put(_KEY % number, self._value)
            self._db.write(batch)
            self._next += self._batch
        self._db.flush_wal(True)
        return self._in_flight * self._batch

    def batches_of_rows(self) -> int:
        """As many batches of what the service writes, after a look for what was there: the row of each record, and one
        each of their tokens and their changes."""
        for _ in range(self._in_flight):
            numbers = range(self._next, self._next + self._batch)
            keys = [_KEY % number for number in numbers]
            batch = rocksdict.WriteBatch(raw_mode=True)
            if any(self._db.get(keys)):
                raise SystemExit("rocksdict has a key that was not put")
            for key in keys:
                batch.put(key, self._row)
            batch.put(_TOKENS_KEY % self._next, b"".join([_TOKEN + key for key in keys]))
            batch.put(_CHANGES_KEY % self._next, b"".join([_CHANGE + key for key in keys]))
            self._db.write(batch)
            self._next += self._batch
        self._db.flush_wal(True)
        return self._in_flight * self._batch

    def scan_mib_per_s(self, seconds: float) -> float:
        """MiB of keys and values a second by the engine's iterator, from the first key on again and again."""
        entries = itertools.chain.from_iterable(self._db.items() for _ in itertools.count())
        size, passed, began = 0, 0.0, time.perf_counter()
        while passed < seconds:
            size += sum(len(key) + len(value) for key, value in itertools.islice(entries, 1000))
            passed = time.perf_counter() - began
        return size / passed / (1 << 20)

    def close(self) -> None:
        """Ends it."""
        self._db.close()

    def _end(self, written: int) -> int:
        self._next += written
        self._db.flush_wal(True)
        return written


def per_s(work: Callable[[], int], seconds: float) -> float:
    """What ``work`` does in a second, in about ``seconds``."""
    work()
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds or not done:
        done += work()
    return done / passed


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--value-bytes", type=int, required=True)
    parser.add_argument("--item-bytes", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    asked = parser.parse_args()
    figures = {}
    records = Raw(asked.folder / "raw-records", asked.value_bytes, asked.in_flight, asked.batch)
    figures["raw_put_per_s"] = per_s(records.puts, asked.seconds)
    figures["raw_get_per_s"] = per_s(records.gets, asked.seconds)
    figures["raw_batch_records_per_s"] = per_s(records.batches, asked.seconds)
    figures["raw_scan_mib_per_s"] = records.scan_mib_per_s(asked.seconds)
    figures["raw_batch_rows_per_s"] = per_s(records.batches_of_rows, asked.seconds)
    records.close()
    items = Raw(asked.folder / "raw-items", asked.item_bytes, asked.in_flight, asked.batch)
    figures["raw_batch_items_per_s"] = per_s(items.batches, asked.seconds)
    items.close()
    print(json.dumps({name: int(value) for name, value in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
