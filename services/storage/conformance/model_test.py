"""Conformance: any sequence of operations against a naive model, in both modes.

The model keeps every accepted write and computes what is there from all of them, by the definition: in LWW the highest
version wins, whatever the order of arrival; in CAS the last write. The store must agree through retries, late writes,
expiry, sweeps and reopening; its feed, replayed, must end in the same records; its counters must count them.
"""

import asyncio
import random
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.storage.conformance.kit import (
    HOUR_US,
    MINUTE_US,
    SECOND_US,
    STORES,
    Case,
    Clock,
    absent,
    between,
    etag,
    keys,
    opened,
)
from services.storage.domain.errors import ConditionFailed
from services.storage.domain.feed import EXPIRED_ANNOTATION
from services.storage.domain.model import ALL, Command, Delete, Mode, Outcome, Put, Receipt, Selection

RECORDS = (b"r", b"r\0", b"s")
KEYS = (b"", b"a", b"a\0", b"b")
DRIFT_US = MINUTE_US


class Written(NamedTuple):
    """One accepted put."""

    version: bytes
    value: bytes
    expire_us: int


class Lww:
    """Every put and delete that was accepted, and what follows from them."""

    def __init__(self) -> None:
        self.puts: dict[tuple[bytes, bytes], list[Written]] = {}
        self.deletes: dict[bytes, list[tuple[bytes, Selection]]] = {}

    def apply(self, command: Command, receipt: Receipt) -> None:
        for put in command.puts:
            written = Written(receipt.version, put.value, put.expire_us)
            self.puts.setdefault((command.record, put.key), []).append(written)
        early = command.token.time_us - (1 if command.puts and command.deletes else 0)
        version = early.to_bytes(8, "big") + command.token.nonce[:8]
        for delete in command.deletes:
            self.deletes.setdefault(command.record, []).append((version, delete.selection))

    def value(self, record: bytes, key: bytes, now_us: int) -> Written | None:
        newest = max(self.puts.get((record, key), ()), default=None)
        if newest is None or (newest.expire_us and newest.expire_us <= now_us):
            return None
        for version, selection in self.deletes.get(record, ()):
            if version >= newest.version and selects(selection, key):
                return None
        return newest


class Cas:
    """What the last write left."""

    def __init__(self) -> None:
        self.there: dict[tuple[bytes, bytes], Written] = {}

    def apply(self, command: Command, receipt: Receipt) -> None:
        for delete in command.deletes:
            for key in KEYS:
                if selects(delete.selection, key):
                    self.there.pop((command.record, key), None)
        for put in command.puts:
            self.there[command.record, put.key] = Written(receipt.version, put.value, put.expire_us)

    def value(self, record: bytes, key: bytes, now_us: int) -> Written | None:
        found = self.there.get((record, key))
        return None if found is None or (found.expire_us and found.expire_us <= now_us) else found


def selects(selection: Selection, key: bytes) -> bool:
    """Whether a selection names a key."""
    if selection.keys is not None:
        return key in selection.keys
    return selection.start <= key and (selection.end is None or key < selection.end)


selections = st.one_of(
    st.sets(st.sampled_from(KEYS), min_size=1).map(lambda some: keys(*some)),
    st.sampled_from([ALL, between(b"", b"a"), between(b"a", None), between(b"a\0", b"b")]),
)
values = st.sampled_from([b"", b"1", b"22", b"x" * 17_000])
lifetimes = st.sampled_from([0, 0, 0, SECOND_US, 2 * MINUTE_US])
puts = st.dictionaries(st.sampled_from(KEYS), st.tuples(values, lifetimes), max_size=3)


class Machine(RuleBasedStateMachine):
    """One namespace of one store."""

    kind = "memory"
    mode = Mode.LWW

    @initialize(seed=st.integers(0, 1 << 32))
    def open(self, seed: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        disk = STORES[self.kind](Path(self.folder.name), self.clock)
        self.case = Case(self.do(opened(disk.open)), self.clock, disk.open)
        self.case._random = random.Random(seed)
        self.space = self.do(self.case.space(self.mode, max_clock_drift_us=DRIFT_US))
        self.model: Lww | Cas = Lww() if self.mode is Mode.LWW else Cas()
        self.accepted: list[tuple[Command, Receipt]] = []

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.do(self.case.store.close())
            self.loop.close()
            self.folder.cleanup()

    def there(self) -> dict[bytes, dict[bytes, Written]]:
        """What the model says is there."""
        now_us = self.clock()
        found = {
            record: {key: one for key in KEYS if (one := self.model.value(record, key, now_us)) is not None}
            for record in RECORDS
        }
        return {record: items for record, items in found.items() if items}

    def write(self, command: Command) -> None:
        receipt = self.do(self.case.write(self.space, command))
        self.model.apply(command, receipt)
        self.accepted.append((command, receipt))

    @rule(
        record=st.sampled_from(RECORDS),
        items=puts,
        deleted=st.lists(selections, max_size=2),
        late_us=st.sampled_from([0, 0, 0, -1, -SECOND_US, -30 * SECOND_US, 20 * SECOND_US]),
    )
    def mutate(
        self, record: bytes, items: dict[bytes, tuple[bytes, int]], deleted: list[Selection], late_us: int
    ) -> None:
        token = self.case.token(late_us)
        some = tuple(Put(key, value, "", (), life and token.time_us + life) for key, (value, life) in items.items())
        deletes = tuple(Delete(selection) for selection in deleted)
        if some or deletes:
            before = self.there().get(record, {})
            command = self.case.command(record, some, deletes, token=token)
            self.write(command)
            if self.mode is Mode.CAS:
                gone = [key for key in before if any(selects(one, key) for one in deleted)]
                assert self.accepted[-1][1].deleted_items == len(gone)

    @precondition(lambda self: self.mode is Mode.CAS)
    @rule(record=st.sampled_from(RECORDS), key=st.sampled_from(KEYS), value=values, guess=st.booleans())
    def put_conditionally(self, record: bytes, key: bytes, value: bytes, guess: bool) -> None:
        current = self.there().get(record, {}).get(key)
        holds = absent() if current is None else etag(current.version)
        wrong = etag(b"\1" * 16) if current is None else absent()
        command = self.case.command(record, (Put(key, value, condition=wrong if guess else holds),))
        if not guess:
            self.write(command)
            return
        with pytest.raises(ConditionFailed) as failed:
            self.do(self.case.write(self.space, command))
        assert failed.value.etag == ("" if current is None else current.version.hex())

    @precondition(lambda self: self.accepted)
    @rule(which=st.integers(0, 1000))
    def retry(self, which: int) -> None:
        command, receipt = self.accepted[which % len(self.accepted)]
        if self.clock() - command.token.time_us > 23 * HOUR_US:
            return  # its window may be over
        again = self.do(self.case.write(self.space, command))
        assert again[1:4] == receipt[1:4]
        assert again.outcome is (Outcome.REPEATED if receipt.outcome is Outcome.APPLIED else receipt.outcome)

    @rule(by_us=st.sampled_from([SECOND_US, 30 * SECOND_US, 3 * MINUTE_US, 25 * HOUR_US]), sweep=st.booleans())
    def time_passes(self, by_us: int, sweep: bool) -> None:
        self.do(self.case.pass_time(by_us, sweep=sweep))

    @rule(record=st.sampled_from(RECORDS), by_us=st.sampled_from([0, SECOND_US, 5 * HOUR_US, 5 * HOUR_US]))
    def spread(self, record: bytes, by_us: int) -> None:
        there = record in self.there()
        buckets = self.do(self.case.store.rebucket(self.space, record))
        assert (buckets is not None) or not there
        self.do(self.case.pass_time(by_us))

    @rule()
    def reopen(self) -> None:
        self.do(self.case.reopen())

    @invariant()
    def shows_what_the_model_says(self) -> None:
        if not hasattr(self, "case"):
            return
        there = self.there()
        shown = {
            one.record: {item.key: (item.version, item.value) for item in one.items}
            for one in self.do(self.case.scan(self.space, max_records=2))
        }
        assert shown == {
            record: {key: (one.version, one.value) for key, one in items.items()} for record, items in there.items()
        }
        for record in RECORDS:
            page = self.do(self.case.page(self.space, record))
            assert page.found is (record in there)
            assert {item.key for item in page.items} == set(there.get(record, ()))

    @rule()
    def feed_and_usage_agree(self) -> None:
        self.do(self.case.pass_time(0))
        there = self.there()
        alive: dict[bytes, bool] = {}
        items: dict[bytes, set[bytes]] = {record: set() for record in RECORDS}
        for event in self.do(self.case.events(self.space)):
            was = alive.get(event.record, False)
            expired = EXPIRED_ANNOTATION in event.annotations
            # Between an expiry and its sweep a record may end and begin again without a change in between.
            assert expired or not (event.deleted and not was and not event.created)
            alive[event.record] = not event.deleted and (was or event.created or expired)
            for item in event.items:
                (items[event.record].discard if item.deleted else items[event.record].add)(item.key)
        assert {record for record, living in alive.items() if living} == set(there)
        assert {record: some for record, some in items.items() if some} == {
            record: set(some) for record, some in there.items()
        }
        usage = self.do(self.case.store.usage(self.space))
        assert (usage.records, usage.items) == (len(there), sum(map(len, there.values())))
        assert (usage.size_bytes > 0) is bool(there)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("kind", sorted(STORES))
def test_any_sequence_agrees_with_the_model(kind: str, mode: Mode) -> None:
    machine = type("Machine", (Machine,), {"kind": kind, "mode": mode})
    examples = {"memory": 120, "embedded": 12, "embedded+redis": 8, "cassandra": 2, "cassandra+redis": 2}
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples[kind],
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
