"""What callers are told when they send nonsense: which field, why; and that nothing was changed."""

import asyncio

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

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
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
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
        (packed_with(dependents=b"\0a"), "RESOURCE_INVALID"),
        (packed_with(dependents=b"a\0"), "RESOURCE_INVALID"),
        (packed_with(dependents=b"a\0" + b"x" * 1025), "RESOURCE_INVALID"),
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


def test_a_page_that_depends_on_itself_is_refused_and_the_others_are_taken():
    async def main():
        async with served() as site:
            own = pb.Dependency(resource="view/html/w/page/00000")
            template = pb.Dependency(resource=TEMPLATE)
            request = pb.DeclareDependenciesRequest(
                declarations=[
                    pb.Declaration(dependent="w/page/00000", view="html", dependencies=[template, own]),
                    pb.Declaration(dependent="w/page/00001", view="html", dependencies=[template]),
                ]
            )
            answer = await site.propagation.DeclareDependencies(request)
            assert [reason(one) for one in answer.results] == ["SELF_DEPENDENCY", ""]
            assert answer.edges_added == 1
            await declare(site, 1)
            await publish(site, change())
            (batch,) = await lease(site, items=1)
            sets = [work_pb2.DependencySet(id=packed.decode_ids(batch.ids)[0], dependencies=[own])]
            (result,) = await complete(site, done(batch, dependencies=sets))
            assert reason(result.status) == "SELF_DEPENDENCY"
            (result,) = await complete(site, done(batch))  # without it the render is as good as any
            assert result.accepted == 1

    asyncio.run(main())


def test_a_million_dependencies_in_one_declaration():
    async def main():
        async with served() as site:
            million = pb.PackedDeclarations(
                view="html",
                dependents=b"w/page/00000",
                inputs=b"\0".join(b"w/t/%d" % at for at in range(100_000)),
                counts=packed.encode_counts([1_000_000]),
                input_index=packed.encode_counts(list(range(100_000)) * 10),
            )
            error = await refused(site.propagation.DeclareDependencies(pb.DeclareDependenciesRequest(packed=[million])))
            assert reason_of(error) == "TOO_MANY_DEPENDENCIES" and "10,000" in (error.details() or "")
            million.input_index += packed.encode_counts([0])
            million.counts = packed.encode_counts([1_000_001])
            error = await refused(site.propagation.DeclareDependencies(pb.DeclareDependenciesRequest(packed=[million])))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT and "1,000,000" in (error.details() or "")
            assert (site.engine.shard.store.edge_count, site.engine.shard.store.resource_count) == (0, 0)
            assert (await declare(site, 2)).edges_added == 2

    asyncio.run(main())


def test_views_and_aspects_that_nobody_knows():
    async def main():
        async with served() as site:
            await declare(site, 1)
            page = "w/page/00000"
            calls = [
                site.propagation.ListDependencies(pb.ListDependenciesRequest(dependent=page, view="none")),
                site.propagation.Explain(pb.ExplainRequest(resource=page, view="none")),
                site.propagation.AwaitVisible(
                    pb.AwaitVisibleRequest(visibility_token="c", resource=page, view="none"), timeout=1
                ),
                site.work.ReportReads(work_pb2.ReportReadsRequest(view="none")),
                site.admin.ListOutputs(admin_pb2.ListOutputsRequest(view="none")),
                site.admin.QueryDeadLetters(
                    admin_pb2.QueryDeadLettersRequest(filter=admin_pb2.DeadLetterFilter(view="none"))
                ),
            ]
            for call in calls:
                error = await refused(call)
                assert reason_of(error) == "VIEW_NOT_FOUND" and "html, summary" in (error.details() or "")
            wrong = pb.CountDependentsRequest(resource=TEMPLATE, aspect="No Aspect")
            assert reason_of(await refused(site.propagation.CountDependents(wrong))) == "ASPECT_INVALID"
            count = await site.propagation.CountDependents(pb.CountDependentsRequest(resource=TEMPLATE, aspect="mood"))
            assert count.total == 0  # an aspect of a caller's own that nothing reads yet
            (result,) = await publish(site, change("mood", aspects=["mood"]))
            assert result.root == "mood" and await lease(site) == []

    asyncio.run(main())


def test_versions_that_go_back_and_times_of_the_future():
    async def main():
        async with served() as site:
            await declare(site, 2)
            future = Timestamp(seconds=253_402_300_799)
            (first,) = await publish(site, change("future", version=7, time=future))
            assert first.root == "future"
            for batch in await lease(site):
                await complete(site, done(batch))
            (back, same) = await publish(site, change("back", version=3), change("same", version=7))
            assert (back.root, same.root) == ("", "") and not back.status.code
            assert await lease(site) == []
            (later,) = await publish(site, change("later", version=8, time=Timestamp(seconds=1)))
            assert later.root == "later" and sum(len(packed.decode_ids(one.ids)) for one in await lease(site)) == 2
            (beyond,) = await publish(site, change("beyond", version=9, time=Timestamp(seconds=2**60)))
            assert path_of(beyond.status) == "changes[0].time"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b"\xff" * 100, {grpc.StatusCode.INVALID_ARGUMENT}),
        (b"\x0a\xff\xff\xff\xff\x0f", {grpc.StatusCode.INVALID_ARGUMENT}),
        (b"\x0a\x05\x0a\x03\xff\xfe\xfd", {grpc.StatusCode.INVALID_ARGUMENT}),
        (b"\x0a\x02\x0a\x00" * (6 << 20), {grpc.StatusCode.RESOURCE_EXHAUSTED}),
    ],
)
def test_malformed_and_enormous_events(body, codes):
    """Bytes that are no message, names that are no UTF-8, 24 MiB at once: an answer each, and the engine goes on."""

    async def main():
        async with served() as site, grpc.aio.insecure_channel(site.address) as channel:
            raw = channel.unary_unary("/wellspring.propagation.v1.Propagation/PublishChanges")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await raw(body)
            assert caught.value.code() in codes, caught.value
            assert "Traceback" not in (caught.value.details() or "")
            await declare(site, 1)
            (good,) = await publish(site, change())
            assert good.root == "c" and len(await lease(site)) == 1

    asyncio.run(main())


def test_more_changes_than_a_call_may_hold():
    async def main():
        async with served() as site:
            many = [change(f"c{at}", f"w/r/{at}") for at in range(1_001)]
            error = await refused(publish(site, *many))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT and "1,000" in (error.details() or "")
            assert not site.engine.shard.roots and site.engine.shard.store.resource_count == 0
            assert len(await publish(site, *many[:1_000])) == 1_000

    asyncio.run(main())
