"""What the storage bench measures: the server by the command that starts it, and requests, already serialised."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

import wellspring_client
from tools.bench.rpc_load import LoadError
from tools.bench.rpc_targets import Target
from wellspring.storage.v1 import storage_pb2 as pb
from wellspring_client.tokens import WriteTokens

ENGINES = ("grpcio", "native")
SPACE = "bench"
SERVICE = "wellspring.storage.v1.Storage"
_MIB = 1 << 20


def server(engine: str, cache_mib: int, write_buffer_mib: int) -> Target:
    """A storage server on the embedded backend, with metrics as in a deployment and one namespace."""

    def command(folder: Path) -> list[str]:
        memory = {"cache_bytes": cache_mib * _MIB, "write_buffer_bytes": write_buffer_mib * _MIB}
        config = {
            "server": {"listen": ["127.0.0.1:0"], "engine": engine, "die_with_parent": True, "drain_wait": "0s"},
            "telemetry": {"metrics_listen": "127.0.0.1:0"},
            "backend": {"embedded": {"path": str(folder / "data"), **memory}},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return [sys.executable, "-m", "services.storage.main", "--config", str(folder / "config.yaml")]

    def prepare(address: str) -> None:
        with wellspring_client.connect(storage=address, timeout=60) as client:
            client.storage.create_namespace(SPACE, mode="LWW")

    return Target(f"storage-{engine}", command, [], prepare)


def cluster_server(address: str, mode: Literal["LWW", "CAS"] | None, processes: int, engine: str = "grpcio") -> Target:
    """So many storage server processes on one port, on the cluster with a node at ``address``, their tables made, with
    metrics as in a deployment; ``engine`` answers gRPC in them. With a mode the one namespace is made, which servers
    started later know at once."""

    def command(folder: Path) -> list[str]:
        cassandra = {"contact_points": [address], "keyspace": "bench", "local_datacentre": "dc1"}
        cassandra["request_timeout"] = "60s"  # what is slow shows in the figures; it is no failure
        config = {
            "server": {
                "listen": ["127.0.0.1:0"],
                "workers": processes,
                "engine": engine,
                "die_with_parent": True,
                "drain_wait": "0s",
            },
            "telemetry": {"metrics_listen": "127.0.0.1:0"},
            "backend": {"cassandra": cassandra},
            # A round's tokens are minted before it, and it may take longer than the default allows.
            "namespace_defaults": {"max_clock_drift": "30m"},
        }
        path = str(folder / "config.yaml")
        Path(path).write_text(yaml.safe_dump(config))
        make_tables("storage", path)
        return [sys.executable, "-m", "services.storage.main", "--config", path]

    def prepare(address: str) -> None:
        with wellspring_client.connect(storage=address, timeout=60) as client:
            client.storage.create_namespace(SPACE, mode=mode or "LWW")

    return Target("storage-cassandra", command, [], prepare if mode else None)


def make_tables(service: str, config: str) -> None:
    """Runs a service's migrations with the configuration in a file. Raises LoadError."""
    migrate = [sys.executable, "-m", f"services.{service}.migrate", "--config", config]
    done = subprocess.run(migrate, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise LoadError(f"the tables could not be made: {done.stderr[-2000:]}")


class Requests:
    """Makes requests that were never made before: each mutation has a token of its own, each record is new."""

    def __init__(self, value_bytes: int, item_bytes: int, batch: int) -> None:
        """``batch``: records of a batch, and items of a record. ``records``: flat ones that were put so far."""
        self._tokens = WriteTokens()
        self._value = os.urandom(value_bytes)
        self._item = os.urandom(item_bytes)
        self.batch = batch
        self.records = 0
        self._wide = 0

    def puts(self, count: int) -> list[bytes]:
        """Single puts."""
        numbers = range(self.records, self.records + count)
        self.records += count
        item = pb.Item(value=self._value)
        make = pb.PutRequest
        return [
            make(namespace=SPACE, record=_record(number), item=item, token=self._tokens.next()).SerializeToString()
            for number in numbers
        ]

    def gets(self, count: int) -> list[bytes]:
        """Gets of records that were put."""
        make, there = pb.GetRequest, max(1, self.records)
        return [
            make(namespace=SPACE, record=_record(number * 7919 % there)).SerializeToString() for number in range(count)
        ]

    def record_batches(self, count: int) -> list[bytes]:
        """Batches of flat records."""
        mutation = pb.Mutation(put=pb.Item(value=self._value))
        return [self._mutations(_record, self._next(self.batch), [mutation]) for _ in range(count)]

    def many(self, count: int) -> list[bytes]:
        """Flat records put in columns."""
        made = []
        for _ in range(count):
            records = [_record(number) for number in self._next(self.batch)]
            values = [self._value] * len(records)
            request = pb.PutManyRequest(namespace=SPACE, token=self._tokens.next(), records=records, values=values)
            made.append(request.SerializeToString())
        return made

    def item_batches(self, count: int, records: int = 1) -> list[bytes]:
        """Batches of so many records with ``batch`` items each."""
        mutations = [pb.Mutation(put=pb.Item(key=b"item-%05d" % n, value=self._item)) for n in range(self.batch)]
        made = []
        for _ in range(count):
            made.append(self._mutations(_wide, range(self._wide, self._wide + records), mutations))
            self._wide += records
        return made

    def _next(self, count: int) -> range:
        self.records += count
        return range(self.records - count, self.records)

    def _mutations(self, name: Callable[[int], bytes], numbers: range, mutations: Sequence[pb.Mutation]) -> bytes:
        pattern = pb.MutateRequest(namespace=SPACE, mutations=mutations)
        batch = pb.BatchMutateRequest()
        for number in numbers:
            request = batch.requests.add()
            request.CopyFrom(pattern)
            request.record = name(number)
            request.token.CopyFrom(self._tokens.next())
        return batch.SerializeToString()


def check_many(answers: Sequence[bytes]) -> None:
    """Raises LoadError when a put of a PutMany was refused, or did nothing."""
    for answer in answers:
        told = pb.PutManyResponse.FromString(answer)
        if set(told.outcomes) != {pb.OUTCOME_APPLIED}:
            raise LoadError(f"a put of many was not applied: {told.refusals[:1] or [*told.outcomes]}")


def check(answers: Sequence[bytes]) -> None:
    """Raises LoadError when a mutation of a batch was refused, or did nothing."""
    for answer in answers:
        results: Any = pb.BatchMutateResponse.FromString(answer).results
        if not results:
            raise LoadError("a batch was answered by nothing")
        for result in results:
            if result.status.code or result.receipt.outcome != pb.OUTCOME_APPLIED:
                raise LoadError(f"a mutation of a batch was not applied: {result}")


def _record(number: int) -> bytes:
    return b"record-%09d" % number


def _wide(number: int) -> bytes:
    return b"wide-%09d" % number


def pieces(total: int, most: int) -> Iterator[int]:
    """``total`` in pieces of at most ``most``."""
    while total > 0:
        yield min(total, most)
        total -= most


def memory_mib(pid: int, kind: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (the most since :func:`forget_peak`) of a process, MiB (proc(5), status)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"process {pid} has no {kind}")


def forget_peak(pid: int) -> None:
    """Has the peak counted from now on (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def environment() -> dict[str, str]:
    """In which a child finds the same modules."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)}
