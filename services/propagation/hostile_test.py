"""What callers are told when they send nonsense: which field, why; and that nothing was changed."""

import asyncio

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from services.propagation.simulation.calls import (
    TEMPLATE,
    change,
    complete,
    declaration,
    declare,
    done,
    lease,
    path_of,
    publish,
    reason,
    reason_of,
    refused,
)
from services.propagation.simulation.serving import served
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed


@pytest.mark.parametrize(
    ("wrong", "path", "expected"),
    [
        (pb.Change(id="", resource=TEMPLATE, version=bytes(16)), "changes[0].id", "CHANGE_ID_INVALID"),
        (pb.Change(id="x" * 257, resource=TEMPLATE, version=bytes(16)), "changes[0].id", "CHANGE_ID_INVALID"),
        (pb.Change(id="c", resource="", version=bytes(16)), "changes[0].resource", "RESOURCE_INVALID"),
        (pb.Change(id="c", resource="a\nb", version=bytes(16)), "changes[0].resource", "RESOURCE_INVALID"),
        (pb.Change(id="c", resource="a\x9fb", version=bytes(16)), "changes[0].resource", "RESOURCE_INVALID"),
        (pb.Change(id="c", resource="ä" * 600, version=bytes(16)), "changes[0].resource", "RESOURCE_INVALID"),
        (pb.Change(id="c", resource="view/html/x", version=bytes(16)), "changes[0].resource", "RESOURCE_INVALID"),
        (pb.Change(id="c", resource=TEMPLATE, version=b"short"), "changes[0].version", "VERSION_INVALID"),
        (
            pb.Change(id="c", resource=TEMPLATE, version=bytes(16), aspects=["No"]),
            "changes[0].aspects[0]",
            "ASPECT_INVALID",
        ),
        (
            pb.Change(id="c", resource=TEMPLATE, version=bytes(16), aspects=["a"] * 17),
            "changes[0].aspects",
            "ASPECT_INVALID",
        ),
        (pb.Change(id="c", resource=TEMPLATE, version=bytes(16), lane="No"), "changes[0].lane", "INVALID_ARGUMENT"),
        (
            pb.Change(id="c", resource=TEMPLATE, version=bytes(16), attributes={"k": "v" * 5000}),
            "changes[0].attributes",
            "INVALID_ARGUMENT",
        ),
        (
            pb.Change(id="c", resource=TEMPLATE, version=bytes(16), cause=pb.Cause(kind="k" * 65)),
            "changes[0].cause.kind",
            "INVALID_ARGUMENT",
        ),
    ],
)
def test_wrong_changes_are_refused_by_their_field(wrong, path, expected):
    async def main():
        async with served() as site:
            bad, good = await publish(site, wrong, change("good"))
            assert (path_of(bad.status), reason(bad.status)) == (path, expected)
            assert not good.status.code

    asyncio.run(main())


def packed_with(**fields):
    message = declaration(2)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (packed_with(view="none"), "VIEW_NOT_FOUND"),
        (packed_with(dependents=b"a\0\0b"), "RESOURCE_INVALID"),
        (packed_with(dependents=b"a\0\xff\xfe"), "RESOURCE_INVALID"),
        (packed_with(dependents=b"a\0b\x01"), "RESOURCE_INVALID"),
        (packed_with(dependents="a\0b\x85".encode()), "RESOURCE_INVALID"),
        (packed_with(dependents=b"same\0same"), "RESOURCE_INVALID"),
        (packed_with(dependents=b"one"), "BATCH_INVALID"),
        (packed_with(counts=b"\1\0\0"), "BATCH_INVALID"),
        (packed_with(counts=packed.encode_counts([1, 2])), "BATCH_INVALID"),
        (packed_with(counts=packed.encode_counts([2**32 - 1, 3])), "TOO_MANY_DEPENDENCIES"),
        (packed_with(input_index=packed.encode_counts([0, 7])), "BATCH_INVALID"),
        (packed_with(inputs=b"t\tNo"), "ASPECT_INVALID"),
        (packed_with(inputs=b"t\ta\tb"), "ASPECT_INVALID"),
        (packed_with(inputs=b"\tcontent"), "RESOURCE_INVALID"),
        (packed_with(inputs=b"view/html/w/page/00001"), "SELF_DEPENDENCY"),
        (packed_with(mode=9), "INVALID_ARGUMENT"),
    ],
)
def test_hostile_declarations_change_nothing(wrong, expected):
    async def main():
        async with served() as site:
            request = pb.DeclareDependenciesRequest(packed=[wrong])
            error = await refused(site.propagation.DeclareDependencies(request))
            assert reason_of(error) == expected
            assert site.engine.shard.store.edge_count == 0
            assert (await declare(site, 2)).edges_added == 2

    asyncio.run(main())


def test_hostile_completions_change_nothing():
    async def main():
        async with served() as site:
            await declare(site, 3)
            await publish(site, change())
            (batch,) = await lease(site)
            hashes = bytes(48)
            base = {"lease_id": batch.lease_id, "fencing": batch.fencing}
            failure = work_pb2.Failure(id=packed.decode_ids(batch.ids)[0], reason="X")
            stranger = work_pb2.DependencySet(id=4000, dependencies=[])
            wrong = {
                "FENCED": [
                    {**base, "fencing": 1, "done": batch.ids, "hashes": hashes},
                    {**base, "lease_id": 99, "done": batch.ids, "hashes": hashes},
                ],
                "BATCH_INVALID": [
                    {**base, "done": batch.ids, "hashes": hashes[:-1]},
                    {**base, "done": b"\1\0\0", "hashes": b""},
                    {**base, "done": np.array([5, 0], "<u4").tobytes(), "hashes": bytes(32)},
                    {**base, "done": np.array([2**31, 2**31], "<u4").tobytes(), "hashes": bytes(32)},
                    {**base, "done": packed.encode_ids([1_000_000]), "hashes": bytes(16)},
                    {**base, "done": batch.ids, "hashes": hashes, "failures": [failure]},
                    {**base, "failures": [work_pb2.Failure(id=1, reason="not upper")]},
                    {**base, "failures": [work_pb2.Failure(id=1, reason="X", detail="d" * 2000)]},
                    {**base, "done": batch.ids, "hashes": hashes, "renderer_seconds": float("nan")},
                    {**base, "done": batch.ids, "hashes": hashes, "dependencies": [stranger]},
                ],
            }
            for expected, completions in wrong.items():
                for fields in completions:
                    (result,) = await complete(site, work_pb2.Completion(**fields))
                    assert reason(result.status) == expected, fields
            (result,) = await complete(site, done(batch))
            assert result.accepted == 3

    asyncio.run(main())


@pytest.mark.parametrize(
    "request_",
    [
        work_pb2.LeaseRequest(executor=""),
        work_pb2.LeaseRequest(executor="x", capacity=[work_pb2.LeaseRequest.Capacity(view="html", items=0)]),
        work_pb2.LeaseRequest(executor="x", capacity=[work_pb2.LeaseRequest.Capacity(view="html", items=200_000)]),
        work_pb2.LeaseRequest(executor="x", wait=Duration(seconds=31)),
    ],
)
def test_wrong_leases_are_refused(request_):
    async def main():
        async with served() as site:
            error = await refused(site.work.Lease(request_))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(main())
