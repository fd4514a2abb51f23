"""Inspection finds the records that hurt, and only those; re-bucketing is an operation that says what it did."""

import asyncio
from typing import Any

from services.storage.rig import Rig, item, mutate, play, put, refusal, token
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_pb2 as pb

Finding = admin_pb.InspectNamespaceResponse.Finding


async def inspected(rig: Rig, limit: int = 0) -> tuple[dict[Any, list[Any]], int]:
    """Findings by kind, and how many records were looked at."""
    answer = await rig.admin.InspectNamespace(admin_pb.InspectNamespaceRequest(name="lww", limit=limit))
    found: dict[Any, list[Any]] = {}
    for one in answer.findings:
        found.setdefault(one.kind, []).append(one)
    return found, answer.records_sampled


async def fill(rig: Rig) -> None:
    """Ordinary records, and three that are not."""
    for number in range(300):
        await rig.storage.Put(put(b"plain%d" % number))
    for first in range(0, 11_000, 1000):
        await rig.storage.Mutate(mutate(b"wide", *(item(b"%06d" % key) for key in range(first, first + 1000))))
    await rig.storage.Mutate(mutate(b"dead", *(item(b"%d" % key) for key in range(150))))
    delete = pb.Mutation(delete=pb.Selection(keys=pb.Keys(keys=sorted(b"%d" % key for key in range(140)))))
    await rig.storage.Mutate(mutate(b"dead", delete))
    await rig.storage.Put(put(b"big", b"x" * 900_000))


def test_the_records_that_hurt_are_found_and_only_those() -> None:
    async def story(rig: Rig) -> None:
        await fill(rig)
        found, sampled = await inspected(rig)
        assert sampled == 303
        told = {kind: [one.record for one in some] for kind, some in found.items() if kind != Finding.KIND_HOT}
        assert told == {
            Finding.KIND_WIDE: [b"wide"],
            Finding.KIND_TOMBSTONES: [b"dead"],
            Finding.KIND_BIG_VALUE: [b"big"],
        }
        (wide,) = found[Finding.KIND_WIDE]
        assert wide.items == 11_000 and "RebucketRecords" in wide.advice
        (dead,) = found[Finding.KIND_TOMBSTONES]
        assert (dead.items, dead.tombstones) == (10, 140) and "140 deletes" in dead.advice
        (big,) = found[Finding.KIND_BIG_VALUE]
        assert big.bytes > 900_000 and "Upload" in big.advice

    play(story)


def test_a_hot_record_is_found_and_the_limit_is_of_each_kind() -> None:
    async def story(rig: Rig) -> None:
        for number in range(50):
            await rig.storage.Put(put(b"big%02d" % number, b"x" * (300_000 + number)))
        for number in range(600):
            key = b"plain%d" % number if number % 2 else b"hot"
            await rig.storage.Get(pb.GetRequest(namespace="lww", record=key))
            await rig.storage.Put(put(key))
        found, sampled = await inspected(rig, 3)
        assert sampled == 351
        assert [one.record for one in found[Finding.KIND_BIG_VALUE]] == [b"big49", b"big48", b"big47"]
        hot = found[Finding.KIND_HOT]
        assert hot[0].record == b"hot" and hot[0].requests_per_s > 1 and "cache" in hot[0].advice
        assert len(hot) <= 3

    play(story)


def test_a_large_namespace_is_sampled() -> None:
    async def story(rig: Rig) -> None:
        for first in range(0, 21_000, 1000):
            batch = pb.BatchMutateRequest()
            for number in range(first, first + 1000):
                one = batch.requests.add(namespace="lww", record=b"%06d" % number, token=token())
                one.mutations.add().put.value = b"v"
            await rig.storage.BatchMutate(batch)
        found, sampled = await inspected(rig)
        assert 5000 < sampled <= 20_000 and set(found) <= {Finding.KIND_HOT}

    play(story)


def test_rebucketing_tells_what_it_did() -> None:
    async def story(rig: Rig) -> None:
        await fill(rig)
        for records, expected in (([], 1), ([b"wide", b"plain1", b"nothing"], 2)):
            operation = await rig.admin.RebucketRecords(admin_pb.RebucketRecordsRequest(name="lww", records=records))
            for _ in range(60_000):
                if operation.state != admin_pb.Operation.STATE_RUNNING:
                    break
                await asyncio.sleep(0.001)
                operation = await rig.admin.GetOperation(admin_pb.GetOperationRequest(name=operation.name))
            assert operation.state == admin_pb.Operation.STATE_SUCCEEDED
            report = operation.rebucket
            assert (report.records, report.buckets_before, report.buckets_after) == (expected, expected, expected)

    play(story)


def test_refusals() -> None:
    async def story(rig: Rig) -> None:
        for request in (
            admin_pb.InspectNamespaceRequest(name="lww", limit=-1),
            admin_pb.InspectNamespaceRequest(name="No"),
        ):
            assert (await refusal(rig.admin.InspectNamespace(request))).reason == "INVALID_ARGUMENT"
        nothing = admin_pb.InspectNamespaceRequest(name="nothing")
        assert (await refusal(rig.admin.InspectNamespace(nothing))).reason == "NAMESPACE_NOT_FOUND"
        for wrong in ([b""], [b"x" * 1025], [b"x"] * 101):
            rebucket = admin_pb.RebucketRecordsRequest(name="lww", records=wrong)
            assert (await refusal(rig.admin.RebucketRecords(rebucket))).reason == "INVALID_ARGUMENT"
        rebucket = admin_pb.RebucketRecordsRequest(name="nothing")
        assert (await refusal(rig.admin.RebucketRecords(rebucket))).reason == "NAMESPACE_NOT_FOUND"

    play(story)
