"""The data plane over gRPC: what is answered, and what hostile or mistaken requests are told."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.storage.rig import Rig, create, item, mutate, play, put, refusal, token, told
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
OUTCOMES = pb.Outcome


def keys(*some: bytes) -> pb.Selection:
    return pb.Selection(keys=pb.Keys(keys=some))


def test_put_get_delete() -> None:
    async def story(rig: Rig) -> None:
        request = put(b"r", item=pb.Item(value=b"hello", content_type="text/plain", attributes={"a": "b"}))
        first = (await rig.storage.Put(request)).receipt
        assert first.outcome == OUTCOMES.OUTCOME_APPLIED and first.etag == first.version.hex() and not first.change_id
        again = (await rig.storage.Put(request)).receipt
        assert again.outcome == OUTCOMES.OUTCOME_REPEATED and again.version == first.version
        got = await rig.storage.Get(pb.GetRequest(namespace="lww", record=b"r", cookie=first.cookie))
        (one,) = got.items
        assert (one.value, one.content_type, dict(one.attributes)) == (b"hello", "text/plain", {"a": "b"})
        assert one.etag == first.etag == got.record_etag and got.found and got.complete
        assert one.write_time.seconds > 1_700_000_000 and not one.size_bytes
        bare = await rig.storage.Get(pb.GetRequest(namespace="lww", record=b"r", omit_values=True))
        assert bare.items[0].size_bytes == 5 and bare.items[0].value == b""
        same = pb.GetRequest(namespace="lww", record=b"r", selection=keys(b""), if_not_etag=first.etag)
        got = await rig.storage.Get(same)
        assert got.not_modified and not got.items and got.found
        gone = (await rig.storage.Delete(pb.DeleteRequest(namespace="lww", record=b"r", token=token()))).receipt
        assert gone.deleted_items == 1
        got = await rig.storage.Get(same)
        assert not got.found and not got.not_modified and got.complete
        missing = pb.DeleteRequest(namespace="lww", record=b"r", token=token())
        refused = await refusal(rig.storage.Delete(missing))
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "ITEM_NOT_FOUND")
        missing.allow_missing = True
        assert (await rig.storage.Delete(missing)).receipt.deleted_items == 0

    play(story)


def test_what_a_write_costs_is_said_when_asked() -> None:
    async def story(rig: Rig) -> None:
        request = mutate(b"r", item(b"a"), item(b""), want_cost=True)
        cost = (await rig.storage.Mutate(request)).receipt.cost
        assert cost.items_written == 2 and cost.bytes_written > 50
        plain = mutate(b"s", item(b""), want_cost=True)
        assert (await rig.storage.Mutate(plain)).receipt.cost.items_written == 1
        assert not (await rig.storage.Mutate(mutate(b"s", item(b"")))).receipt.HasField("cost")

    play(story)


def test_conditions_and_their_refusals() -> None:
    async def story(rig: Rig) -> None:
        absent = pb.Condition(absent=True)
        first = (await rig.storage.Put(put(b"r", namespace="cas", condition=absent))).receipt
        refused = await refusal(rig.storage.Put(put(b"r", namespace="cas", condition=absent)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "CONDITION_FAILED")
        assert refused.metadata == {"etag": first.etag, "index": "0"}
        for strange in ("nonsense", first.etag.upper(), "00", " " + first.etag):
            wrong = put(b"r", namespace="cas", condition=pb.Condition(etag=strange))
            assert (await refusal(rig.storage.Put(wrong))).reason == "CONDITION_FAILED"
        good = put(b"r", namespace="cas", condition=pb.Condition(etag=first.etag))
        assert (await rig.storage.Put(good)).receipt.version > first.version
        refused = await refusal(rig.storage.Put(put(b"r", condition=absent)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODE_MISMATCH")
        body = put(b"r", value=b"other", namespace="cas", token=good.token)
        refused = await refusal(rig.storage.Put(body))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "TOKEN_REUSED")
        refused = await refusal(rig.storage.Put(put(b"r", token=token(-3600))))
        assert (refused.code, refused.reason, refused.fields) == (INVALID, "CLOCK_DRIFT", ("token.time",))

    play(story)


LONG = b"x" * 1025
BAD_WRITES: list[tuple[str, Any, str]] = [
    ("no record", put(b""), "record"),
    ("long record", put(LONG), "record"),
    ("no item", pb.PutRequest(namespace="lww", record=b"r", token=token()), "item"),
    ("long key", put(b"r", key=LONG), "item.key"),
    ("no token", pb.PutRequest(namespace="lww", record=b"r", item=pb.Item()), "token.nonce"),
    ("no time", put(b"r", token=pb.WriteToken(nonce=b"x" * 16)), "token.time"),
    ("short nonce", put(b"r", token=pb.WriteToken(nonce=b"x", time=Timestamp(seconds=1))), "token.nonce"),
    ("bad time", put(b"r", token=pb.WriteToken(nonce=b"x" * 16, time=Timestamp(seconds=-5))), "token.time"),
    ("bad nanos", put(b"r", token=pb.WriteToken(nonce=b"x" * 16, time=Timestamp(seconds=5, nanos=-1))), "token.time"),
    ("far time", put(b"r", token=pb.WriteToken(nonce=b"x" * 16, time=Timestamp(seconds=1 << 62))), "token.time"),
    ("media type", put(b"r", item=pb.Item(content_type="x" * 129)), "item.content_type"),
    ("media type's line", put(b"r", item=pb.Item(content_type="text/html\r\nX: y")), "item.content_type"),
    ("attributes", put(b"r", item=pb.Item(attributes={str(n): "" for n in range(17)})), "item.attributes"),
    ("attributes' size", put(b"r", item=pb.Item(attributes={"a": "x" * 4096})), "item.attributes"),
    ("annotations", put(b"r", annotations={"a": "x" * 4096}), "annotations"),
    ("ttl", put(b"r", item=pb.Item(ttl=Duration())), "item.ttl"),
    ("negative ttl", put(b"r", item=pb.Item(ttl=Duration(seconds=-1))), "item.ttl"),
    ("endless ttl", put(b"r", item=pb.Item(ttl=Duration(seconds=1 << 40))), "item.ttl"),
    ("past expiry", put(b"r", item=pb.Item(expire_time=Timestamp(seconds=5))), "item.expire_time"),
    ("false absent", put(b"r", condition=pb.Condition(absent=False)), "condition.absent"),
    ("empty etag", put(b"r", condition=pb.Condition(etag="")), "condition.etag"),
    ("short version", put(b"r", condition=pb.Condition(older_than=b"x")), "condition.older_than"),
    ("consistency", put(b"r", consistency=77), "consistency"),
]


def test_bad_writes_name_their_field_and_do_nothing() -> None:
    async def story(rig: Rig) -> None:
        for name, request, field in BAD_WRITES:
            refused = await refusal(rig.storage.Put(request))
            assert (refused.code, refused.fields) == (INVALID, (field,)), name
        big = await refusal(rig.storage.Put(put(b"r", b"x" * ((1 << 20) + 1))))
        assert (big.code, big.reason, big.fields) == (INVALID, "VALUE_TOO_LARGE", ("item.value",))
        for mutations, field in (
            ([], "mutations"),
            ([item()] * 1001, "mutations"),
            ([item(b"a"), item(b"a")], "mutations[1].put.key"),
            ([item(b"a"), pb.Mutation()], "mutations[1]"),
            ([item(b"%d" % n, b"x" * (1 << 20)) for n in range(5)], "mutations"),
            ([pb.Mutation(delete=keys())], "mutations[0].delete.keys"),
            ([pb.Mutation(delete=keys(b"a", LONG))], "mutations[0].delete.keys.keys[1]"),
            ([pb.Mutation(delete=pb.Selection(all=False))], "mutations[0].delete.all"),
            ([pb.Mutation(delete=pb.Selection(range=pb.KeyRange(start=b"b", end=b"b")))], "mutations[0].delete.range"),
            (
                [pb.Mutation(delete=pb.Selection(all=True), condition=pb.Condition(older_than=b"x" * 16))],
                "mutations[0].condition",
            ),
        ):
            refused = await refusal(rig.storage.Mutate(mutate(b"r", *mutations)))
            assert (refused.code, refused.fields) == (INVALID, (field,)), field
        for name in ("", "no", "x" * 1000, "lww\0"):
            refused = await refusal(rig.storage.Put(put(b"r", namespace=name)))
            assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "NAMESPACE_NOT_FOUND")
        usage = await rig.admin.GetUsage(admin_pb.GetUsageRequest(name="lww"))
        assert (usage.records, usage.items, usage.bytes) == (0, 0, 0)

    play(story)


def test_a_request_that_is_not_one_is_refused() -> None:
    async def story(rig: Rig) -> None:
        channel: Any = rig.channel
        raw = channel.unary_unary("/wellspring.storage.v1.Storage/Get")
        for body in (b"\xff\xff\xff", pb.GetRequest(namespace="xx").SerializeToString().replace(b"xx", b"\xff\xfe")):
            refused = await refusal(raw(body))
            assert (refused.code, refused.reason) == (INVALID, "REQUEST_MALFORMED")

    play(story)


def test_page_tokens_are_bound_to_their_request() -> None:
    async def story(rig: Rig) -> None:
        await rig.storage.Mutate(mutate(b"r", *(item(b"%02d" % number) for number in range(30))))
        await rig.storage.Mutate(mutate(b"s", *(item(b"%02d" % number) for number in range(30))))
        request = pb.GetRequest(namespace="lww", record=b"r", limits=pb.ReadLimits(max_items=10))
        seen = []
        while True:
            got = await rig.storage.Get(request)
            seen += [one.key for one in got.items]
            if got.complete:
                break
            request.page_token = got.next_page_token
            request.limits.max_items = 7
        assert seen == [b"%02d" % number for number in range(30)] and not got.next_page_token
        changes: tuple[dict[str, Any], ...] = (
            {"record": b"s"},
            {"namespace": "cas"},
            {"selection": keys(b"01", b"02")},
            {"omit_values": True},
            {"page_token": "x" + request.page_token},
            {"page_token": request.page_token[:-1]},
            {"page_token": "junk"},
        )
        for change in changes:
            forged = pb.GetRequest()
            forged.CopyFrom(request)
            for name, value in change.items():
                if name == "selection":
                    forged.selection.CopyFrom(value)
                else:
                    setattr(forged, name, value)
            refused = await refusal(rig.storage.Get(forged))
            assert (refused.code, refused.reason, refused.fields) == (INVALID, "PAGE_TOKEN_INVALID", ("page_token",))
        for name in ("max_items", "max_bytes"):
            bad = pb.GetRequest(namespace="lww", record=b"r", limits=pb.ReadLimits(**{name: -1}))
            assert (await refusal(rig.storage.Get(bad))).fields == (f"limits.{name}",)
        strange = pb.GetRequest(namespace="lww", record=b"r", cookie="zz")
        assert (await refusal(rig.storage.Get(strange))).fields == ("cookie",)
        strange.cookie = "00000001" + "f" * 16
        refused = await refusal(rig.storage.Get(strange))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "CONSISTENCY_UNAVAILABLE")

    play(story)


def test_batches_answer_each_request_for_itself() -> None:
    async def story(rig: Rig) -> None:
        writes = [
            mutate(b"a", item()),
            mutate(b"", item()),
            mutate(b"b", item(), namespace="none"),
            mutate(b"c", item(), namespace="cas"),
            mutate(b"c", pb.Mutation(put=pb.Item(), condition=pb.Condition(absent=True)), namespace="cas"),
        ]
        results = (await rig.storage.BatchMutate(pb.BatchMutateRequest(requests=writes))).results
        codes = [one.status.code for one in results]
        assert codes == [0, 3, 5, 0, 10]
        assert all(one.HasField("status") for one in results)
        assert [one.HasField("receipt") for one in results] == [True, False, False, True, False]
        assert told(3, results[1].status).fields == ("record",)
        assert told(10, results[4].status).metadata["index"] == "0"
        reads = [pb.GetRequest(namespace=name, record=record) for name, record in
                 (("lww", b"a"), ("lww", b"zz"), ("none", b"a"), ("lww", b""), ("cas", b"c"))]  # fmt: skip
        results = (await rig.storage.BatchGet(pb.BatchGetRequest(requests=reads))).results
        assert [one.status.code for one in results] == [0, 0, 5, 3, 0]
        assert [one.response.found for one in results] == [True, False, False, False, True]
        for empty in (rig.storage.BatchGet(pb.BatchGetRequest()), rig.storage.BatchMutate(pb.BatchMutateRequest())):
            assert (await refusal(empty)).fields == ("requests",)
        many = pb.BatchGetRequest(requests=[reads[0]] * 1001)
        assert (await refusal(rig.storage.BatchGet(many))).fields == ("requests",)
        wide = pb.BatchMutateRequest(
            requests=[mutate(b"%d" % n, *(item(b"%d" % key) for key in range(1000))) for n in range(11)]
        )
        results = (await rig.storage.BatchMutate(wide)).results
        assert [one.status.code for one in results] == [0] * 10 + [3]

    play(story)


@pytest.mark.parametrize("seconds", [0, 2000])
def test_outcomes_and_versions(seconds: int) -> None:
    async def story(rig: Rig) -> None:
        retention = admin_pb.Retention(max_versions=3, undelete_window=Duration(seconds=seconds))
        await create(rig, "kept", retention=retention)
        requests = [put(b"r", b"%d" % number, namespace="kept") for number in range(3)]
        for one in requests:
            await rig.storage.Put(one)
        states = []
        for made in (requests[0].token, requests[2].token, token()):
            asked = pb.GetOutcomeRequest(namespace="kept", record=b"r", token=made)
            got = await rig.storage.GetOutcome(asked)
            states.append(got.state)
            assert got.window.seconds == 86_400
        names = pb.GetOutcomeResponse
        assert states == [names.STATE_NOT_CURRENT, names.STATE_CURRENT, names.STATE_UNKNOWN]
        listing = pb.ListVersionsRequest(namespace="kept", record=b"r", page_size=2)
        page = await rig.storage.ListVersions(listing)
        listing.page_token = page.next_page_token
        rest = await rig.storage.ListVersions(listing)
        assert [one.item.value for one in (*page.versions, *rest.versions)] == [b"2", b"1", b"0"]
        gone = (await rig.storage.Delete(pb.DeleteRequest(namespace="kept", record=b"r", token=token()))).receipt
        back = pb.UndeleteRequest(namespace="kept", record=b"r", token=token(), version=gone.version)
        if not seconds:
            assert (await refusal(rig.storage.Undelete(back))).reason == "VERSION_NOT_FOUND"
            return
        assert (await rig.storage.Undelete(back)).restored_items == 1
        assert (await rig.storage.Get(pb.GetRequest(namespace="kept", record=b"r"))).items[0].value == b"2"
        back.version = b"x"
        assert (await refusal(rig.storage.Undelete(back))).fields == ("version",)

    play(story)
