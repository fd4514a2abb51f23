"""Hostile requests to the propagation engine: names, sets and completions that are wrong or made to harm. Each is
refused by field, whole, and the engine goes on."""

import grpc
import numpy as np
import pytest

import wellspring_client
from tests.system.asking import raw, refused
from tests.system.refusing import plain
from tests.system.served import three_services
from wellspring.propagation.v1 import propagation_pb2, work_pb2
from wellspring_client import packed
from wellspring_client.errors import InvalidRequest, WellspringError

VIEW = "page"
LONG = "n" * 1025
CONTROL = ["a\x00b", "a\x1fb", "a\x7fb", "a\nb"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with three_services(tmp_path_factory.mktemp("site"), "grpcio") as services:
        yield services


@pytest.fixture
def client(site):
    with wellspring_client.connect(propagation=site["propagation"].address, timeout=60) as client:
        yield client


def test_resources_aspects_and_versions_that_are_none_are_refused_each_for_itself(client):
    engine, version = client.propagation, bytes(16)
    for resource in ("", LONG, *CONTROL):
        refused(InvalidRequest, engine.change, resource, version)
        refused(InvalidRequest, engine.count_dependents, resource)
    for bad in (b"", bytes(15), bytes(17)):
        refused(InvalidRequest, engine.change, "page/a", bad)
    refused(InvalidRequest, engine.change, "page/a", version, aspects=["Not An Aspect"])
    refused(InvalidRequest, engine.change, "page/a", version, aspects=[f"a{n}" for n in range(17)])
    refused(InvalidRequest, engine.change, "page/a", version, id="i" * 257)
    refused(WellspringError, engine.declare, "noview", {"page/a": ["in/b"]})
    with pytest.raises(ValueError, match="control characters"):
        engine.declare(VIEW, {"page/a": ["page/a\x01"]})
    refused(wellspring_client.NotFound, engine.get_change, "none")
    assert list(engine.list_changes()) == []
    assert engine.admin.status().edges == 0


HOSTILE_DECLARATIONS = {
    "counts that are no numbers": {"counts": b"\x01\x00\x00"},
    "more counts than dependents": {"counts": np.array([1, 1, 1], "<u4").tobytes()},
    "counts that overflow": {"counts": np.array([2**32 - 1, 1], "<u4").tobytes()},
    "an index beyond the inputs": {"input_index": np.array([0, 9], "<u4").tobytes()},
    "an index too short": {"input_index": b"\x00\x00\x00\x00"},
    "no names": {"dependents": b""},
    "an empty name": {"dependents": b"page/a\0\0page/b"},
    "a name twice": {"dependents": b"page/a\0page/a"},
    "names that are not UTF-8": {"dependents": b"page/a\0\xff\xfe"},
    "a control character": {"inputs": b"in/\x01\0in/2"},
    "a bad aspect": {"inputs": b"in/1\tNOT AN ASPECT\0in/2"},
    "a name too long": {"inputs": b"in/1\0" + b"x" * 1025},
    "a view that is none": {"view": "nowhere"},
}


@pytest.mark.parametrize("what", HOSTILE_DECLARATIONS)
def test_hostile_packed_declarations_are_refused_whole(site, client, what):
    good = {
        "view": VIEW,
        "dependents": b"page/a\0page/b",
        "inputs": b"in/1\0in/2",
        "counts": np.array([1, 1], "<u4").tobytes(),
        "input_index": np.array([0, 1], "<u4").tobytes(),
    }
    hostile = propagation_pb2.PackedDeclarations(**(good | HOSTILE_DECLARATIONS[what]))
    request = propagation_pb2.DeclareDependenciesRequest(
        packed=[propagation_pb2.PackedDeclarations(**good), hostile]
    ).SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        raw(site["propagation"].address, "propagation.v1.Propagation/DeclareDependencies", request)
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    plain(caught.value.details())
    assert client.propagation.admin.status().edges == 0


def test_hostile_completions_are_refused_and_the_lease_stays_good(client):
    engine = client.propagation
    engine.declare(VIEW, {f"page/w{n}": ["in/w"] for n in range(3)})
    root = engine.change("in/w", bytes(16)).root
    capacity = [work_pb2.LeaseRequest.Capacity(view=VIEW, items=10)]
    request = work_pb2.LeaseRequest(executor="hostile", capacity=capacity, wait={"seconds": 5})
    (batch,) = engine.work.lease(request).batches
    ids = packed.decode_ids(batch.ids)
    held = {"lease_id": batch.lease_id, "fencing": batch.fencing}
    hashes = packed.encode_hashes([bytes(16)] * len(ids))
    stranger = packed.encode_ids([int(ids[-1]) + 5])
    for wrong in (
        {"done": b"\x01"},
        {"done": np.array([0, 0], "<u4").tobytes(), "hashes": bytes(32)},
        {"done": np.array([2**32 - 1, 2**32 - 1], "<u4").tobytes(), "hashes": bytes(32)},
        {"done": batch.ids, "hashes": hashes[:-1]},
        {"done": batch.ids},
        {"done": stranger, "hashes": bytes(16)},
        {"done": batch.ids, "hashes": hashes, "released": batch.ids},
        {"failures": [work_pb2.Failure(id=int(ids[0]), reason="not upper")]},
        {"failures": [work_pb2.Failure(id=int(ids[0]), reason="R" * 65)]},
        {"done": batch.ids, "hashes": hashes, "dependencies": [work_pb2.DependencySet(id=int(ids[-1]) + 9)]},
        {"done": batch.ids, "hashes": hashes, "renderer_seconds": float("nan")},
        {"done": batch.ids, "hashes": hashes, "renderer_seconds": -1.0},
    ):
        completion = work_pb2.Completion(**held, **wrong)
        try:
            (result,) = engine.work.complete(work_pb2.CompleteRequest(completions=[completion])).results
        except WellspringError as error:
            assert isinstance(error, InvalidRequest) and plain(error.message), wrong
        else:
            assert result.status.code and result.accepted == 0, (wrong, result)
            plain(result.status.message)
    for lease_id, fencing in ((0, 0), (batch.lease_id, batch.fencing + 1), (2**64 - 1, batch.fencing)):
        completion = work_pb2.Completion(lease_id=lease_id, fencing=fencing, done=batch.ids, hashes=hashes)
        (result,) = engine.work.complete(work_pb2.CompleteRequest(completions=[completion])).results
        assert result.status.code == wellspring_client.Aborted.code
    for capacity in ({"view": VIEW, "items": -1}, {"view": VIEW, "items": 0}, {"view": VIEW, "items": 2**31 - 1}):
        bad = work_pb2.LeaseRequest(executor="x", capacity=[work_pb2.LeaseRequest.Capacity(**capacity)])
        refused(WellspringError, engine.work.lease, bad)
    completion = work_pb2.Completion(**held, done=batch.ids, hashes=hashes)
    (result,) = engine.work.complete(work_pb2.CompleteRequest(completions=[completion])).results
    assert (result.status.code, result.accepted) == (0, 3), result
    assert engine.get_change(root).state == propagation_pb2.Root.STATE_DONE
