"""PutMany: each put is one of its own, retried, refused and asked for by itself; a request that is wrong is refused."""

import asyncio
from typing import Any

import grpc
import pytest

from services.storage.domain.limits import MAX_BATCH, MAX_RECORD_KEY
from services.storage.domain.namespace import Deployment
from services.storage.rig import Rig, create, play, put, refusal, token, told
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
APPLIED, REPEATED, SUPERSEDED = pb.OUTCOME_APPLIED, pb.OUTCOME_REPEATED, pb.OUTCOME_SUPERSEDED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def many(values: dict[bytes, bytes], namespace: str = "lww", **rest: Any) -> pb.PutManyRequest:
    rest.setdefault("token", token())
    return pb.PutManyRequest(namespace=namespace, records=values.keys(), values=values.values(), **rest)


async def shown(rig: Rig, record: bytes, namespace: str = "lww", **rest: Any) -> pb.GetResponse:
    answer: pb.GetResponse = await rig.storage.Get(pb.GetRequest(namespace=namespace, record=record, **rest))
    return answer


@pytest.mark.parametrize("namespace", ["lww", "cas"])
@pytest.mark.parametrize("key", [b"", b"k"])
def test_all_are_there_and_a_retry_changes_nothing(namespace: str, key: bytes) -> None:
    async def story(rig: Rig) -> None:
        values = {b"r%03d" % number: b"v%d" % number * (number % 40 * 20) for number in range(MAX_BATCH)}
        request = many(values, namespace, item_key=key, content_type="text/plain")
        first = await rig.storage.PutMany(request)
        assert first.outcomes == bytes([APPLIED]) * MAX_BATCH and not first.refusals
        again = await rig.storage.PutMany(request)
        assert again.outcomes == bytes([REPEATED]) * MAX_BATCH
        for record in (b"r000", b"r500", b"r999"):
            got = await shown(rig, record, namespace, cookie=first.cookie)
            (one,) = got.items
            assert (one.key, one.value, one.content_type) == (key, values[record], "text/plain")
            asked = pb.GetOutcomeRequest(namespace=namespace, record=record, token=request.token)
            outcome = await rig.storage.GetOutcome(asked)
            assert outcome.state == pb.GetOutcomeResponse.STATE_CURRENT and outcome.version == one.version
        part = pb.PutManyRequest()
        part.CopyFrom(request)
        del part.records[10:], part.values[10:]
        assert (await rig.storage.PutMany(part)).outcomes == bytes([REPEATED]) * 10
        single = put(b"r007", item=pb.Item(key=key, value=values[b"r007"], content_type="text/plain"))
        single.namespace, single.token.nonce = namespace, request.token.nonce
        single.token.time.CopyFrom(request.token.time)
        assert (await rig.storage.Put(single)).receipt.outcome == REPEATED
        part.values[3] = b"another body"
        told_of = await rig.storage.PutMany(part)
        assert told_of.outcomes == bytes([REPEATED] * 3 + [0] + [REPEATED] * 6)
        (refused,) = told_of.refusals
        assert refused.index == 3 and told(None, refused.status).reason == "TOKEN_REUSED"

    play(story)


def test_renders_are_ordered_by_their_version_each_for_itself() -> None:
    async def story(rig: Rig) -> None:
        newer, older = (number.to_bytes(16, "big") for number in (9, 5))
        condition = pb.Condition(older_than=newer)
        await rig.storage.PutMany(many({b"b": b"new"}, condition=condition))
        condition = pb.Condition(older_than=older)
        answer = await rig.storage.PutMany(many({b"a": b"old", b"b": b"old", b"c": b"old"}, condition=condition))
        assert answer.outcomes == bytes([APPLIED, SUPERSEDED, APPLIED]) and not answer.refusals
        assert [(await shown(rig, record)).items[0].value for record in (b"a", b"b", b"c")] == [b"old", b"new", b"old"]

    play(story)


def test_of_two_that_both_want_to_be_first_one_wins_each_record() -> None:
    async def story(rig: Rig) -> None:
        records = [b"r%d" % number for number in range(100)]
        absent = pb.Condition(absent=True)
        requests = [many(dict.fromkeys(records, who), "cas", condition=absent) for who in (b"me", b"you")]
        answers = await asyncio.gather(*map(rig.storage.PutMany, requests))
        for index, record in enumerate(records):
            outcomes = [answer.outcomes[index] for answer in answers]
            assert sorted(outcomes) == [0, APPLIED]
            winner = (b"me", b"you")[outcomes.index(APPLIED)]
            assert (await shown(rig, record, "cas")).items[0].value == winner
        refusals = [refused for answer in answers for refused in answer.refusals]
        assert {told(None, refused.status).reason for refused in refusals} == {"CONDITION_FAILED"}
        assert len(refusals) == 100 and {bool(answer.cookie) for answer in answers if any(answer.outcomes)} == {True}
        nothing = await rig.storage.PutMany(many({b"r0": b"late"}, "cas", condition=absent))
        assert nothing.outcomes == b"\0" and nothing.cookie == ""

    play(story)


def test_default_expiries_of_one_request_are_spread() -> None:
    async def story(rig: Rig) -> None:
        retention = admin_pb.Retention()
        retention.default_ttl.seconds = 1_000_000
        await create(rig, "ttl", retention=retention)
        values = {b"r%d" % number: b"" for number in range(50)}
        request = many(values, "ttl")
        await rig.storage.PutMany(request)
        assert set((await rig.storage.PutMany(request)).outcomes) == {REPEATED}
        expiries = {(await shown(rig, record, "ttl")).items[0].expire_time.ToMicroseconds() for record in values}
        lives = [expiry - request.token.time.ToMicroseconds() for expiry in expiries]
        assert len(lives) > 45 and all(1_000_000_000_000 <= one <= 1_100_000_000_001 for one in lives)

    play(story, deployment=Deployment(ttl_jitter=0.1))


def test_what_is_wrong_in_the_request_refuses_it_as_a_whole() -> None:
    def changed(**fields: Any) -> pb.PutManyRequest:
        request = many({b"a": b"1", b"b": b"2"})
        for name, value in fields.items():
            request.ClearField(name)  # type: ignore[arg-type]
            if isinstance(value, list):
                getattr(request, name).extend(value)
            elif isinstance(value, bytes | str | int):
                setattr(request, name, value)
            elif value is not None:
                getattr(request, name).CopyFrom(value)
        return request

    wrong = [
        (changed(records=[], values=[]), "records"),
        (changed(records=[b"%d" % number for number in range(MAX_BATCH + 1)]), "records"),
        (changed(values=[b"1"]), "values"),
        (changed(records=[b"a", b"a"]), "records[1]"),
        (changed(token=pb.WriteToken()), "token.nonce"),
        (changed(condition=pb.Condition(etag="ab" * 16)), "condition.etag"),
        (changed(condition=pb.Condition(older_than=b"short")), "condition.older_than"),
        (changed(item_key=b"k" * 1025), "item_key"),
        (changed(content_type="text/\n"), "content_type"),
        (changed(consistency=99), "consistency"),
    ]

    async def story(rig: Rig) -> None:
        for request, field in wrong:
            failed = await refusal(rig.storage.PutMany(request))
            assert failed.code is INVALID and failed.fields == (field,), field
        missing = await refusal(rig.storage.PutMany(changed(namespace="nowhere")))
        assert missing.reason == "NAMESPACE_NOT_FOUND"
        assert not (await shown(rig, b"a")).found

    play(story)


def test_a_record_or_a_value_that_cannot_be_is_refused_alone() -> None:
    async def story(rig: Rig) -> None:
        long, large = b"r" * (MAX_RECORD_KEY + 1), bytes((1 << 20) + 1)
        answer = await rig.storage.PutMany(many({b"a": b"1", b"": b"2", b"b": large, long: b"4", b"c": b"5"}))
        assert answer.outcomes == bytes([APPLIED, 0, 0, 0, APPLIED]) and answer.cookie
        found = [told(None, one.status) for one in answer.refusals]
        assert [one.index for one in answer.refusals] == [1, 2, 3]
        assert [one.fields for one in found] == [("records[1]",), ("values[2]",), ("records[3]",)]
        assert found[1].reason == "VALUE_TOO_LARGE"
        assert [(await shown(rig, record)).found for record in (b"a", b"b", b"c")] == [True, False, True]
        answer = await rig.storage.PutMany(many({b"": b"2"}))
        assert answer.outcomes == b"\0" and not answer.cookie
        await create(rig, "bound", binding=admin_pb.Binding(resource_prefix="page/"))
        answer = await rig.storage.PutMany(many({b"fit": b"", b"\xff\xfe": b""}, "bound"))
        assert answer.outcomes == bytes([APPLIED, 0]) and answer.refusals[0].index == 1

    play(story)


def test_a_quota_counts_every_put() -> None:
    async def story(rig: Rig) -> None:
        await create(rig, "small", quota=admin_pb.Quota(max_writes_per_s=10))
        await rig.storage.PutMany(many({b"r%d" % number: b"" for number in range(10)}, "small"))
        failed = await refusal(rig.storage.PutMany(many({b"s%d" % number: b"" for number in range(10)}, "small")))
        assert failed.code is EXHAUSTED and failed.reason == "QUOTA_EXCEEDED"
        await create(rig, "full", quota=admin_pb.Quota(max_records=3))
        answer = await rig.storage.PutMany(many({b"r%d" % number: b"" for number in range(5)}, "full"))
        assert answer.outcomes == bytes([APPLIED] * 3 + [0, 0])
        assert {(one.index, told(None, one.status).reason) for one in answer.refusals} == {
            (3, "QUOTA_EXCEEDED"),
            (4, "QUOTA_EXCEEDED"),
        }

    play(story)
