"""What is there when a record of a step is written: its key in the index, and word of the change in the feed."""

import asyncio
import collections
import gc
from types import SimpleNamespace
from typing import Any

import pytest

from libs.cassandra.limits import BatchLimits
from libs.errors.errors import Unavailable
from services.storage.cassandra.lww.spreading import BucketSize
from services.storage.cassandra.store import CassandraStore, Timing
from services.storage.cassandra.view import View
from services.storage.domain.model import Command, Mode, Outcome, Put, Receipt, WriteToken
from services.storage.domain.namespace import Namespace, Settings
from services.storage.store.interface import Write
from services.storage.store.local import LocalOptions

SPACE = Namespace(Settings(name="n", mode=Mode.LWW), number=7, create_us=1, stamped=True)
NOW_US = 1_700_000_000_000_000


class Statements(dict[str, Any]):
    """Each knows its name."""

    def __missing__(self, name: str) -> Any:
        self[name] = SimpleNamespace(name=name)
        return self[name]


class Session:
    """An empty cluster, of which each batch takes some turns of the loop. ``arrived``: what has, by statement;
    ``early``: records that were sent before what is to be there."""

    options = SimpleNamespace(local_datacentre="dc1")

    def __init__(self) -> None:
        self.arrived: dict[str, list[Any]] = collections.defaultdict(list)
        self.batches: list[list[str]] = []
        self.requests: list[list[Any]] = []
        self.early: set[bytes] = set()
        self.failing = ""

    async def execute(self, statement: Any, values: Any, *_: Any, **__: Any) -> list[Any]:
        return []

    async def batch(self, writes: Any, *given: Any) -> list[Any]:
        names = [statement.name for statement, _ in writes]
        self.batches.append(names)
        self.requests.append([(statement.name, values) for statement, values in writes])
        if "lww_put" in names:
            found = {values[2] for values in self.arrived["index"]}
            records = {values[3] for statement, values in writes if statement.name == "lww_put"}
            self.early |= records if not self.arrived["intend_many"] else records - found
        for _ in range(3):
            await asyncio.sleep(0)
        if self.failing in names:
            raise Unavailable("away")
        for statement, values in writes:
            self.arrived[statement.name].append(values)
        return []

    async def pages(self, *_: Any) -> Any:
        yield []

    def replicas(self, key: bytes) -> str:
        return "all"


def put(session: Session, records: list[bytes], value: bytes = b"value") -> list[Receipt | Any]:
    """What became of one put of each record, as one step."""

    async def run() -> list[Any]:
        statements: Any = SimpleNamespace(read=Statements(), write=Statements())
        given: Any = (LocalOptions(), Timing(), BatchLimits(), BucketSize())
        store = CassandraStore(session, statements, lambda: NOW_US, *given)  # type: ignore[arg-type]
        store._catalog.by_number[SPACE.number] = SPACE
        await store._tasks.start()
        token = WriteToken(NOW_US, bytes(16))
        commands = [Command(record, token, (Put(b"", value),), (), (0,), b"digest") for record in records]
        results = await store.mutate([Write(SPACE, command) for command in commands])
        await store._tasks.close()
        return results

    return asyncio.run(run())


@pytest.mark.parametrize(("count", "length"), [(2, 3), (16, 16), (100, 20), (20, 900), (3, 2000)])
def test_keys_are_in_the_index_and_changes_announced_before_records_are_written(count: int, length: int) -> None:
    session = Session()
    records = [b"%03d" % number + b"r" * (length - 3) for number in range(count)]
    results = put(session, records)
    assert [result.outcome for result in results] == [Outcome.APPLIED] * count
    assert not session.early
    assert sorted(values[2] for values in session.arrived["index"]) == records, "each once"


def counted(request: list[Any]) -> int:
    """A batch of new records as a node of Cassandra 5.0 counts it (by its own warnings): a partition, its rows, their
    cells with times, what they hold, and the map of one of them."""
    size = 29 * len({values[-3] for _, values in request})
    for name, values in request:
        cells = 2 if name == "lww_remember" else 1
        size += 22 + len(values[-1]) + 20 * cells + 12 * (cells - 1)
        size += sum(len(value) for value in values[:-4] if isinstance(value, bytes))
    return size


@pytest.mark.parametrize(("size", "length", "together"), [(1024, 16, 3), (800, 16, 4), (800, 900, 2), (10, 16, 10)])
def test_records_share_requests_as_far_as_a_node_does_not_warn(size: int, length: int, together: int) -> None:
    session = Session()
    results = put(session, [b"%03d" % number + b"r" * (length - 3) for number in range(60)], bytes(size))
    assert [result.outcome for result in results] == [Outcome.APPLIED] * 60
    written = [request for request in session.requests if request[0][0] == "lww_put"]
    assert {len(request) for request in written} == {3 * together}, "three rows each"
    assert max(map(counted, written)) <= BatchLimits().bytes


def test_keys_of_few_share_a_request_with_the_announcement() -> None:
    session = Session()
    put(session, [b"record-%09d" % number for number in range(30)])
    (announced,) = [names for names in session.batches if "intend_many" in names]
    assert announced == ["intend_many", *["index"] * 30]
    assert not [names for names in session.batches if names[0] == "index"]


@pytest.mark.parametrize("failing", ["index", "intend_many"])
def test_where_either_does_not_arrive_nothing_is_written(failing: str) -> None:
    session = Session()
    session.failing = failing
    results = put(session, [b"%03d" % number for number in range(100)])
    assert {type(result) for result in results} == {Unavailable} and not session.arrived["lww_put"]


def test_what_a_step_read_is_freed_with_it_and_does_not_wait_for_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        put(Session(), [b"a", b"b"])
        assert not [one for one in gc.get_objects() if isinstance(one, View)]
    finally:
        gc.enable()
