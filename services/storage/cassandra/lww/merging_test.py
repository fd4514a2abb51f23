"""Replicas that get the writes of several servers in any order, any number of times, hold the same in the end: of each
item the highest version that no delete covers. The table is a model of Cassandra's; nothing is started."""

import asyncio
import itertools
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.storage.cassandra.checking import LWW_AT
from services.storage.cassandra.commit import Change
from services.storage.cassandra.lanes import Intent
from services.storage.cassandra.lww.cells import decode_cells, decode_head, decode_range
from services.storage.cassandra.lww.record import LwwPartition
from services.storage.cassandra.lww.writing import Writing
from services.storage.cassandra.partition import HEAD, HISTORY, ITEMS, TOKENS, Loaded
from services.storage.cassandra.sums import ORDERED_AT, Sums
from services.storage.cassandra.view import View
from services.storage.domain.commands import body_digest
from services.storage.domain.decide import RangeTomb, visible
from services.storage.domain.model import Command, Condition, ConditionKind, Delete, Mode, Put, Selection, WriteToken
from services.storage.domain.namespace import Namespace, Settings
from services.storage.store import rows
from services.storage.store.interface import Write
from services.storage.store.ledger import Account
from services.storage.store.local import LocalOptions, LocalStore

NOW_US = 1_700_000_000_000_000
SPACE = Namespace(Settings("ns", Mode.LWW), 1, NOW_US, stamped=True)
PLACE = (1, b"r")
KEYS = (b"", b"a", b"b", b"c")
GRACE_US = LocalOptions().grace_us


class Names(dict[str, Any]):
    """Every statement is its name."""

    def __missing__(self, name: str) -> str:
        return name


class Replica:
    """One record in Cassandra's table: of a cell's values that with the greater time stays, of equal times a removal,
    then the greater bytes."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, bytes, bytes | None], tuple[int, bool, bytes]] = {}

    def apply(self, batch: list[tuple[str, Any]]) -> None:
        for name, values in batch:
            kind, key = values[-2:]
            if name == "lww_put":
                self._merge((kind, key, None), (values[0], False, values[1]))
            elif name == "lww_put_more":
                self._merge((kind, key, values[1]), (values[0], False, values[2]))
            elif name == "lww_lasting":
                self._merge((kind, key, None), (values[0], False, values[2]))
            elif name == "lww_remember":
                self._merge((kind, key, None), (values[0], False, values[2]))
                self._merge((kind, key, values[3]), (values[0], False, values[4]))
            elif name == "lww_drop":
                self._merge((kind, key, None), (values[0], True, b""))
            elif name == "lww_drop_more":
                self._merge((kind, key, values[0]), (values[1], True, b""))
            else:
                raise AssertionError(name)

    def _merge(self, place: tuple[int, bytes, bytes | None], cell: tuple[int, bool, bytes]) -> None:
        self.cells[place] = max(cell, self.cells.get(place, cell))

    def read(self, now_us: int) -> LwwPartition:
        """The whole record, as the loader would have it."""
        found: dict[tuple[int, bytes], tuple[bytes | None, dict[bytes, bytes]]] = {}
        for (kind, key, name), (_, dead, value) in self.cells.items():
            if not dead:
                if kind in LWW_AT:
                    at = LWW_AT[kind] if name is None else ORDERED_AT
                    value = Sums(PLACE).opened(kind, key, value, at, version=name or b"")
                plain, more = found.get((kind, key), (None, {}))
                found[kind, key] = (value, more) if name is None else (plain, {**more, name: value})
        partition = LwwPartition(PLACE, GRACE_US)
        own, more = found.get((HEAD, b""), (None, {}))
        ranges = {name: decode_range(cell) for name, cell in more.items()}
        partition.set_head(None if own is None else decode_head(own), ranges)
        for (kind, key), (plain, more) in found.items():
            if kind == ITEMS:
                partition.put(key, decode_cells(plain, more))
            elif kind in (HISTORY, TOKENS):
                partition.spans[kind].put(key, plain)
        for span in (partition.known, partition.spans[HISTORY], partition.spans[TOKENS]):
            span.cover(b"", None)
        partition.derive(now_us)
        return partition

    def shown(self, now_us: int) -> dict[bytes, tuple[bytes, bytes]]:
        """(version, value) of what readers see, by key."""
        partition = self.read(now_us)
        tombs, found = partition.tombs(), {}
        for key, cells in partition.cells.items():
            row, _ = cells.shown(key, tombs, now_us)
            if row is not None and visible(rows.known(row), now_us):
                found[key] = (rows.known(row).version, rows.raw_value(row))
        return found


def mutated(replica: Replica, command: Command, now_us: int) -> list[tuple[str, Any]]:
    """The batch that a server writes which has read ``replica``."""
    partition = replica.read(now_us)
    account = Account(1)
    account.sequence = max(partition.stamp, now_us)
    view = View(Loaded(partitions={PLACE: partition}), [(SPACE, account)], 0)
    store = LocalStore(view, lambda: now_us, LocalOptions())
    (receipt,) = asyncio.run(store.mutate([Write(SPACE, command)]))
    if isinstance(receipt, Exception):
        raise receipt
    writing = Writing(Change(view.ops, account.sequence + 1), partition, Names(), now_us, 1)
    writing.cells()
    token = command.token.time_us.to_bytes(8, "big") + command.token.nonce
    return writing.batch(Intent(1, 7, account.sequence + 1, 0, token))  # type: ignore[return-value]


def command(time_us: int, nonce: bytes, puts: tuple[Put, ...], deletes: tuple[Delete, ...] = ()) -> Command:
    positions = tuple(range(len(puts) + len(deletes)))
    digest = body_digest(puts, deletes, None, None)
    return Command(b"r", WriteToken(time_us, nonce), puts, deletes, positions, digest)


def expected(commands: list[Command]) -> dict[bytes, tuple[bytes, bytes]]:
    """By the definition: of each item the highest version that no delete covers."""
    puts: dict[bytes, tuple[bytes, bytes]] = {}
    deletes: list[tuple[bytes, Selection]] = []
    for one in commands:
        version = one.token.time_us.to_bytes(8, "big") + one.token.nonce[:8]
        early = one.token.time_us - (1 if one.puts and one.deletes else 0)
        deletes += [(early.to_bytes(8, "big") + one.token.nonce[:8], delete.selection) for delete in one.deletes]
        for put in one.puts:
            puts[put.key] = max(puts.get(put.key, (b"", b"")), (version, put.value))
    return {key: found for key, found in puts.items() if not any(_covers(one, key, found[0]) for one in deletes)}


def _covers(delete: tuple[bytes, Selection], key: bytes, version: bytes) -> bool:
    by, selection = delete
    if by < version:
        return False
    if selection.keys is not None:
        return key in selection.keys
    return selection.start <= key and (selection.end is None or key < selection.end)


selections = st.one_of(
    st.sets(st.sampled_from(KEYS), min_size=1).map(lambda some: Selection(tuple(sorted(some)))),
    st.sampled_from([Selection(), Selection(None, b"a", b"c"), Selection(None, b"b", None)]),
)
steps = st.lists(
    st.tuples(
        st.integers(0, 6),  # few times, so that many are equal
        st.sets(st.sampled_from(KEYS), max_size=3),
        st.lists(selections, max_size=2),
        st.integers(0, 1),
    ).filter(lambda one: bool(one[1] or one[2])),
    min_size=1,
    max_size=8,
)


WHOLE = Selection(None, b"", None)
OF_ONE_MICROSECOND = [
    *[(0, {b""}, [], 0), (0, {b""}, [], 0), (1, {b""}, [], 0), (0, {b""}, [], 0), (1, {b""}, [], 1)],
    (1, set(), [WHOLE], 0),
]


@settings(max_examples=300, deadline=None)
@given(steps=steps, seed=st.integers(0, 1 << 30))
@example(steps=OF_ONE_MICROSECOND, seed=17)
def test_replicas_agree_on_the_highest_version(steps: list[Any], seed: int) -> None:
    chance = random.Random(seed)
    replicas = (Replica(), Replica())
    late: list[tuple[int, list[tuple[str, Any]]]] = []
    commands: list[Command] = []
    for number, (at, put_keys, selected, server) in enumerate(steps):
        puts = tuple(Put(key, b"%d" % number) for key in sorted(put_keys))
        one = command(NOW_US + 2 * at, chance.randbytes(16), puts, tuple(Delete(selection) for selection in selected))
        commands.append(one)
        batch = mutated(replicas[server], one, NOW_US + chance.randrange(100))
        replicas[server].apply(batch)
        late.append((1 - server, batch))
        if chance.random() < 0.5:
            to, some = late.pop(chance.randrange(len(late)))
            replicas[to].apply(some)
            late += [(to, some)] if chance.random() < 0.3 else []
    chance.shuffle(late)
    for to, batch in late:
        replicas[to].apply(batch)
    first, second = (replica.shown(NOW_US + 1000) for replica in replicas)
    assert first == second
    assert first == expected(commands)


def render(sequence: int, time_us: int, value: bytes) -> Command:
    version = (1).to_bytes(8, "big") + sequence.to_bytes(8, "big")
    put = Put(b"", value, condition=Condition(ConditionKind.OLDER_THAN, version))
    return command(time_us, b"n%015d" % sequence, (put,))


def test_of_renders_that_do_not_see_each_other_the_highest_stays() -> None:
    for order in itertools.permutations(range(3)):
        batches = [mutated(Replica(), render(number, NOW_US - number, b"%d" % number), NOW_US) for number in range(3)]
        replica = Replica()
        for index in order:
            replica.apply(batches[index])
            replica.apply(batches[order[0]])
        assert [value for _, value in replica.shown(NOW_US).values()] == [b"2"]


@pytest.mark.parametrize("first", [0, 1])
def test_a_plain_put_beside_a_render(first: int) -> None:
    """Neither knows of the other: the plain one lies above, and what it hid does not come back when it is deleted."""
    plain = command(NOW_US + 5, b"p" * 16, (Put(b"", b"plain"),))
    batches = [mutated(Replica(), render(9, NOW_US, b"html"), NOW_US), mutated(Replica(), plain, NOW_US)]
    replica = Replica()
    replica.apply(batches[first])
    replica.apply(batches[1 - first])
    assert [value for _, value in replica.shown(NOW_US).values()] == [b"plain"]
    replica.apply(mutated(replica, command(NOW_US + 9, b"d" * 16, (), (Delete(Selection((b"",))),)), NOW_US + 9))
    assert replica.shown(NOW_US + 10) == {}
    replica.apply(mutated(replica, render(10, NOW_US + 20, b"newer"), NOW_US + 20))
    assert [value for _, value in replica.shown(NOW_US + 20).values()] == [b"newer"]
    late = command(NOW_US + 7, b"l" * 16, (Put(b"", b"late"),))
    replica.apply(mutated(replica, late, NOW_US + 21))
    assert [value for _, value in replica.shown(NOW_US + 21).values()] == [b"newer"]


def test_what_comes_late_under_a_range_delete_goes_when_that_is_forgotten() -> None:
    replica, other = Replica(), Replica()
    late = mutated(other, command(NOW_US, b"l" * 16, (Put(b"a", b"late"), Put(b"z", b"beside"))), NOW_US)
    replica.apply(mutated(replica, command(NOW_US + 9, b"d" * 16, (), (Delete(Selection(None, b"", b"b")),)), NOW_US))
    replica.apply(late)
    assert set(replica.shown(NOW_US)) == {b"z"}
    partition = replica.read(NOW_US)
    (tomb,) = partition.tombs()
    assert isinstance(tomb, RangeTomb)
    removed = Writing(Change([], NOW_US + 50), partition, Names(), NOW_US, 1).covered([tomb])
    assert [(name, values[-1]) for name, values in removed] == [("lww_drop", b"a")]  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("content_type", ["", "text/plain"])
@pytest.mark.parametrize("expire_us", [0, NOW_US - 1, NOW_US + 1])
@pytest.mark.parametrize("key", [b"", b"a"])
@pytest.mark.parametrize("size", [0, 10, 100_000])
@pytest.mark.parametrize("older_than", [False, True])
def test_a_new_record_is_written_in_short_as_at_length(
    monkeypatch: pytest.MonkeyPatch, content_type: str, expire_us: int, key: bytes, size: int, older_than: bool
) -> None:
    condition = Condition(ConditionKind.OLDER_THAN, b"\x02" * 16) if older_than else None
    puts = (Put(key, b"v" * size, content_type, (), expire_us, condition),)
    short = mutated(Replica(), command(NOW_US, b"n" * 16, puts), NOW_US)
    monkeypatch.setattr(Writing, "_flat", lambda self: False)
    assert mutated(Replica(), command(NOW_US, b"n" * 16, puts), NOW_US) == short
