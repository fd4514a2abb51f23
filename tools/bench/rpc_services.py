"""The services as the rpc bench measures them: real processes on the embedded store, on both engines.

Storage gets and puts values of 1 KiB, flat records of an LWW namespace; session validates one of many live sessions;
propagation publishes changes of resources that have ten dependents each, and lends and takes back items of one change.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import wellspring_client
from tools.bench.rpc_load import LoadError
from tools.bench.rpc_targets import BATCH_ITEMS, Calls, Load, Target
from wellspring.propagation.v1 import propagation_pb2, work_pb2
from wellspring.session.v1 import session_pb2
from wellspring.storage.v1 import storage_pb2
from wellspring_client import packed
from wellspring_client.tokens import WriteTokens, request_id

ENGINES = ("grpcio", "native")
RECORDS = 10_000
VALUE = b"v" * 1024
SESSIONS = 1_000
RESOURCES = 100
DEPENDENTS = 10
"""Of each resource that is published."""
WORK_ITEMS = 60_000
SPACE, REALM, VIEW, HUB = "bench", "bench", "page", "template/hub"
STORAGE = "wellspring.storage.v1.Storage"
PROPAGATION = "wellspring.propagation.v1.Propagation"
WORK = "wellspring.propagation.v1.PropagationWork"
VIEWS = """
views:
  - name: page
    resource_prefixes: ["page/"]
    render: {entry_point: {function: "bench:render"}}
    store: {namespace: rendered}
"""


def service_targets() -> list[Target]:
    """The services, on grpcio and on the native engine."""
    makers: Sequence[Callable[[str, str], Target]] = (_storage, _session, _propagation)
    return [
        maker(service if engine == "grpcio" else f"{service}_{engine}", engine)
        for maker, service in zip(makers, ("storage", "session", "propagation"), strict=True)
        for engine in ENGINES
    ]


def _command(service: str, engine: str, more: Mapping[str, Any]) -> Callable[[Path], list[str]]:
    """The service on a free port of loopback, its data in the folder; metrics as in a deployment."""

    def command(folder: Path) -> list[str]:
        config = {
            "server": {"listen": ["127.0.0.1:0"], "engine": engine, "die_with_parent": True, "drain_wait": "0s"},
            "telemetry": {"metrics_listen": "127.0.0.1:0"},
            "backend": {"embedded": {"path": str(folder / "data")}},
        }
        (folder / "views.yaml").write_text(VIEWS, encoding="utf-8")
        placed = {key: str(folder / value) if key.endswith("_file") else value for key, value in more.items()}
        (folder / "config.yaml").write_text(yaml.safe_dump(config | placed), encoding="utf-8")
        return [sys.executable, "-m", f"services.{service}.main", "--config", str(folder / "config.yaml")]

    return command


# Storage


def _storage(name: str, engine: str) -> Target:
    tokens = WriteTokens()

    def prepare(address: str) -> None:
        with wellspring_client.connect(storage=address, timeout=60) as client:
            client.storage.create_namespace(SPACE, mode="LWW")
            outcomes = client.storage.namespace(SPACE).put_many([(_record(n).decode(), VALUE) for n in range(RECORDS)])
            failed = [outcome for outcome in outcomes if isinstance(outcome, wellspring_client.WellspringError)]
            if failed:
                raise LoadError(f"storage refused a record: {failed[0]}")

    def get(number: int) -> storage_pb2.GetRequest:
        key = storage_pb2.Selection(keys=storage_pb2.Keys(keys=[b""]))
        return storage_pb2.GetRequest(namespace=SPACE, record=_record(number), selection=key)

    def gets(count: int) -> list[bytes]:
        return [get(n).SerializeToString() for n in range(RECORDS)]

    def get_batches(count: int) -> list[bytes]:
        return [
            storage_pb2.BatchGetRequest(requests=map(get, range(n, n + BATCH_ITEMS))).SerializeToString()
            for n in range(0, RECORDS, BATCH_ITEMS)
        ]

    def put(number: int) -> storage_pb2.PutRequest:
        item = storage_pb2.Item(value=VALUE)
        return storage_pb2.PutRequest(namespace=SPACE, record=_record(number), item=item, token=tokens.next())

    def mutate(number: int) -> storage_pb2.MutateRequest:
        mutation = storage_pb2.Mutation(put=storage_pb2.Item(value=VALUE))
        return storage_pb2.MutateRequest(
            namespace=SPACE, record=_record(number), mutations=[mutation], token=tokens.next()
        )

    def puts(count: int) -> list[bytes]:
        return [put(n).SerializeToString() for n in range(count)]

    def put_batches(count: int) -> list[bytes]:
        return [
            storage_pb2.BatchMutateRequest(
                requests=map(mutate, range(n * BATCH_ITEMS, (n + 1) * BATCH_ITEMS))
            ).SerializeToString()
            for n in range(count)
        ]

    loads = [
        Load(
            f"{name}_get",
            Calls(f"{STORAGE}/Get", gets),
            Calls(f"{STORAGE}/BatchGet", get_batches, _each_accepted(storage_pb2.BatchGetResponse)),
        ),
        Load(
            f"{name}_put",
            Calls(f"{STORAGE}/Put", puts),
            Calls(f"{STORAGE}/BatchMutate", put_batches, _each_accepted(storage_pb2.BatchMutateResponse)),
        ),
    ]
    return Target(name, _command("storage", engine, {}), loads, prepare)


def _record(number: int) -> bytes:
    return b"record-%06d" % (number % RECORDS)


def _each_accepted(response: Any, items: int = BATCH_ITEMS) -> Callable[[Sequence[bytes]], None]:
    """Raises LoadError when an answer, one of ``response``, holds another number of results than ``items``, or one
    with an error."""

    def check(answers: Sequence[bytes]) -> None:
        for answer in answers:
            results = response.FromString(answer).results
            if len(results) != items:
                raise LoadError(f"a batch of {items} got {len(results)} results")
            for result in results:
                if result.status.code:
                    raise LoadError(f"an item of a batch was refused: {result.status.message}")

    return check


# Session


def _session(name: str, engine: str) -> Target:
    tokens: list[bytes] = []

    def prepare(address: str) -> None:
        with wellspring_client.connect(session=address, timeout=60) as client:
            realm = client.session.realm(REALM)
            for number in range(SESSIONS):
                minted = realm.create(f"user-{number}", data={"name": b"a reader"})
                tokens.append(minted.token.value.encode())

    def validations(count: int) -> list[bytes]:
        return [
            session_pb2.ValidateRequest(
                token=session_pb2.Secret(value=token), realm=REALM, touch=True, data_keys=["name"]
            ).SerializeToString()
            for token in tokens
        ]

    more = {"keyring_file": "keyring.json", "create_keyring": True, "realms": [{"name": REALM}]}
    loads = [Load(f"{name}_validate", Calls("wellspring.session.v1.Sessions/Validate", validations))]
    return Target(name, _command("session", engine, more), loads, prepare)


# Propagation


def _propagation(name: str, engine: str) -> Target:
    def prepare(address: str) -> None:
        with wellspring_client.connect(propagation=address, timeout=60) as client:
            client.propagation.declare(VIEW, ((f"page/{n:06d}", [HUB]) for n in range(WORK_ITEMS)))
            pages = range(RESOURCES * DEPENDENTS)
            client.propagation.declare(VIEW, ((f"page/own/{n}", [f"template/{n % RESOURCES}"]) for n in pages))

    def all_pending(address: str) -> None:
        with wellspring_client.connect(propagation=address, timeout=60) as client:
            client.propagation.change(HUB, _version())

    def change(number: int) -> propagation_pb2.Change:
        resource = f"template/{number % RESOURCES}"
        return propagation_pb2.Change(id=request_id(), resource=resource, version=_version())

    def publishes(items: int) -> Callable[[int], list[bytes]]:
        def make(count: int) -> list[bytes]:
            return [
                propagation_pb2.PublishChangesRequest(
                    changes=map(change, range(n * items, (n + 1) * items))
                ).SerializeToString()
                for n in range(count)
            ]

        return make

    accepted = _each_accepted(propagation_pb2.PublishChangesResponse)
    loads = [
        Load(
            f"{name}_publish",
            Calls(f"{PROPAGATION}/PublishChanges", publishes(1)),
            Calls(f"{PROPAGATION}/PublishChanges", publishes(BATCH_ITEMS), accepted),
        ),
        Load(f"{name}_work", _work(1), _work(BATCH_ITEMS), all_pending, WORK_ITEMS),
    ]
    return Target(name, _command("propagation", engine, {"views_file": "views.yaml"}), loads, prepare)


def _work(items: int) -> Calls:
    """A lease of so many items, and its completion with a new output of each."""
    capacity = [work_pb2.LeaseRequest.Capacity(view=VIEW, items=items)]
    request = work_pb2.LeaseRequest(executor="bench", capacity=capacity).SerializeToString()

    def completions(answers: Sequence[bytes]) -> Calls:
        made = []
        for answer in answers:
            for batch in work_pb2.LeaseResponse.FromString(answer).batches:
                done = work_pb2.Completion(
                    lease_id=batch.lease_id,
                    fencing=batch.fencing,
                    done=batch.ids,
                    hashes=os.urandom(packed.HASH_BYTES * (len(batch.ids) // 4)),
                    renderer_seconds=1e-3 * items,
                )
                made.append(work_pb2.CompleteRequest(completions=[done]).SerializeToString())
        if len(made) != len(answers):
            raise LoadError(f"{len(answers)} leases brought {len(made)} batches of work")
        return Calls(f"{WORK}/Complete", lambda count: made, _each_accepted(work_pb2.CompleteResponse, 1))

    return Calls(f"{WORK}/Lease", lambda count: [request], None, completions)


def _version() -> bytes:
    return time.time_ns().to_bytes(8, "big") + os.urandom(8)
