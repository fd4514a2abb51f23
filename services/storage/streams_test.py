"""The streams over gRPC: scans, watches, uploads and downloads."""

from typing import Any

import google_crc32c
import grpc
from google.protobuf.duration_pb2 import Duration

from services.storage.rig import Rig, create, item, mutate, play, put, refusal, token
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
OUTCOMES = pb.Outcome


def test_a_scan_streams_and_resumes() -> None:
    async def story(rig: Rig) -> None:
        for number in range(50):
            await rig.storage.Put(put(b"%02d" % number, b"x" * 100))
        await rig.storage.Mutate(mutate(b"wide", *(item(b"%03d" % n, b"x" * 3000) for n in range(800))))
        request = pb.ScanRequest(namespace="lww", batch_records=7)
        answers = [answer async for answer in rig.storage.Scan(request)]
        assert [one.record for answer in answers for one in answer.records if one.record != b"wide"] == [
            b"%02d" % number for number in range(50)
        ]
        pieces = [one for answer in answers for one in answer.records if one.record == b"wide"]
        assert [one.partial for one in pieces] == [True] * (len(pieces) - 1) + [False] and len(pieces) > 1
        assert [i.key for one in pieces for i in one.items] == [b"%03d" % n for n in range(800)]
        for at, answer in enumerate(answers):
            request.resume_token = answer.resume_token
            rest = [one async for one in rig.storage.Scan(request)]
            assert [r.record for one in rest for r in one.records] == [
                r.record for one in answers[at + 1 :] for r in one.records
            ]
        ranges = [pb.KeyRange(start=b"40"), pb.KeyRange(start=b"05", end=b"10"), pb.KeyRange(start=b"08", end=b"12")]
        some = pb.ScanRequest(namespace="lww", ranges=ranges, omit_values=True)
        found = [one.record async for answer in rig.storage.Scan(some) for one in answer.records]
        assert found[:7] == [b"%02d" % number for number in range(5, 12)] and found[7] == b"40"
        some.resume_token = answers[0].resume_token
        refused = await refusal(rig.storage.Scan(some).read())
        assert (refused.code, refused.reason, refused.fields) == (INVALID, "PAGE_TOKEN_INVALID", ("resume_token",))
        split = await rig.storage.SplitRanges(pb.SplitRangesRequest(namespace="lww", parts=4))
        assert len(split.ranges) == 4 and split.ranges[0].start == b"" and split.ranges[-1].end == b""
        assert (await refusal(rig.storage.SplitRanges(pb.SplitRangesRequest(namespace="lww")))).fields == ("parts",)

    play(story)


def test_a_scan_ends_after_as_many_records_as_were_asked_for() -> None:
    async def story(rig: Rig) -> None:
        for number in range(30):
            await rig.storage.Put(put(b"%02d" % number, b"x" * 100))
        await rig.storage.Mutate(mutate(b"05wide", *(item(b"%03d" % n, b"x" * 3000) for n in range(800))))
        every = [b"%02d" % number for number in range(30)]
        every.insert(6, b"05wide")
        ranges = [pb.KeyRange(end=b"20"), pb.KeyRange(start=b"25")]
        wanted = [key for key in every if key < b"20" or key >= b"25"]
        for most in (1, 6, 7, 8, 21, 22, 100):
            request = pb.ScanRequest(namespace="lww", ranges=ranges, batch_records=4, max_records=most)
            seen: list[bytes] = []
            while len(seen) < len(wanted):
                answers = [one async for one in rig.storage.Scan(request)]
                whole = [one.record for answer in answers for one in answer.records if not one.partial]
                assert whole == wanted[len(seen) : len(seen) + most]
                seen += whole
                request.resume_token = answers[-1].resume_token
        refused = await refusal(rig.storage.Scan(pb.ScanRequest(namespace="lww", max_records=-1)).read())
        assert (refused.code, refused.fields) == (INVALID, ("max_records",))

    play(story)


def test_a_watch_begins_resumes_and_beats() -> None:
    async def story(rig: Rig) -> None:
        await create(rig, "bound", binding=admin_pb.Binding(resource_prefix="enwiki/"))
        receipt = (await rig.storage.Put(put(b"r", namespace="bound", annotations={"who": "me"}))).receipt
        watch = rig.storage.Watch(pb.WatchRequest(namespace="bound", from_beginning=True))
        first, second = await watch.read(), await watch.read()
        assert first.HasField("heartbeat") and first.resume_token
        (event,) = second.events
        assert event.change_id == receipt.change_id != "" and event.version == receipt.version
        assert event.created and not event.deleted and dict(event.annotations) == {"who": "me"}
        await rig.storage.Put(put(b"s", namespace="bound"))
        third = await watch.read()
        assert [one.record for one in third.events] == [b"s"]
        watch.cancel()
        await rig.storage.Put(put(b"t", namespace="bound"))
        ranged = pb.WatchRequest(
            namespace="bound",
            resume_token=second.resume_token,
            ranges=[pb.KeyRange(start=b"t")],
            heartbeat_interval=Duration(seconds=1),
        )
        watch = rig.storage.Watch(ranged)
        await watch.read()
        assert [one.record for one in (await watch.read()).events] == [b"t"]
        beat = await watch.read()
        assert beat.HasField("heartbeat") and beat.resume_token
        await rig.admin.DeleteNamespace(admin_pb.DeleteNamespaceRequest(name="bound"))
        assert (await refusal(watch.read())).reason == "NAMESPACE_DELETED"
        for change, field in (
            ({"resume_token": "junk"}, "resume_token"),
            ({"resume_token": first.resume_token}, "resume_token"),
            ({"heartbeat_interval": Duration(seconds=61)}, "heartbeat_interval"),
            ({"max_events": -1}, "max_events"),
        ):
            bad = rig.storage.Watch(pb.WatchRequest(namespace="lww", **change))
            assert (await refusal(bad.read())).fields == (field,)
        record = put(b"\xff", namespace="named")
        await create(rig, "named", binding=admin_pb.Binding(resource_prefix="x"))
        assert (await refusal(rig.storage.Put(record))).fields == ("record",)
        record.record = b"a\nb"
        assert (await refusal(rig.storage.Put(record))).fields == ("record",)

    play(story)


def uploads(value: bytes, chunk: int = 1 << 20, crc: int | None = None, **header: Any) -> list[pb.UploadRequest]:
    """The messages of an upload to the item "big" of the record r."""
    fields = {"namespace": "lww", "record": b"r", "item": pb.Item(key=b"big"), "token": token(), **header}
    crc = google_crc32c.value(value) if crc is None else crc
    return [
        pb.UploadRequest(header=pb.UploadRequest.Header(**fields)),
        *(pb.UploadRequest(chunk=value[at : at + chunk]) for at in range(0, len(value), chunk)),
        pb.UploadRequest(finish=pb.UploadRequest.Finish(crc32c=crc)),
    ]


def test_uploads_are_seen_whole_or_not_at_all() -> None:
    async def story(rig: Rig) -> None:
        async def download(**rest: Any) -> tuple[bytes, Any]:
            call = rig.storage.Download(pb.DownloadRequest(namespace="lww", record=b"r", item_key=b"big", **rest))
            answers = [answer async for answer in call]
            crc = answers[-1].crc32c if answers[-1].WhichOneof("kind") == "crc32c" else None
            return b"".join(answer.chunk for answer in answers), crc

        old = bytes(range(256)) * 10_000
        sent = uploads(old, size_bytes=len(old))
        receipt = (await rig.storage.Upload(iter(sent))).receipt
        assert (await rig.storage.Upload(iter(sent))).receipt.outcome == OUTCOMES.OUTCOME_REPEATED
        assert await download() == (old, google_crc32c.value(old))
        assert await download(offset=1_048_570, limit=20) == (old[1_048_570:1_048_590], None)
        got = await rig.storage.Get(pb.GetRequest(namespace="lww", record=b"r"))
        assert got.items[0].chunked and got.items[0].size_bytes == len(old)
        new = b"new" * 1000
        header, *rest = uploads(new)
        for messages, code, field in (
            (uploads(new, crc=1), grpc.StatusCode.DATA_LOSS, None),
            (uploads(new)[:-1], INVALID, "finish"),
            (uploads(new)[1:], INVALID, "header"),
            ([header, header, *rest], INVALID, "chunk"),
            ([header, pb.UploadRequest(chunk=b"")], INVALID, "chunk"),
            ([header, pb.UploadRequest(chunk=b"x" * ((1 << 20) + 1))], INVALID, "chunk"),
            (uploads(new, size_bytes=5), INVALID, "finish"),
            (uploads(new, size_bytes=-1), INVALID, "header.size_bytes"),
            (uploads(b"x" * 3_000_001), INVALID, "chunk"),
            (uploads(new, token=pb.WriteToken()), INVALID, "header.token.nonce"),
            (uploads(new, item=pb.Item(value=b"x")), INVALID, "header.item.value"),
            (uploads(new, condition=pb.Condition(absent=True)), grpc.StatusCode.FAILED_PRECONDITION, None),
        ):
            refused = await refusal(rig.storage.Upload(iter(messages)))
            assert refused.code is code and refused.fields == ((field,) if field else ()), field
        assert await download() == (old, google_crc32c.value(old))
        assert len(rig.store._kv.family("chunks").keys) == 4  # type: ignore[attr-defined]  # three chunks and their mark
        wrong = rig.storage.Download(pb.DownloadRequest(namespace="lww", record=b"r", item_key=b"big", if_etag="x"))
        assert (await refusal(wrong.read())).metadata["etag"] == receipt.etag
        beyond = rig.storage.Download(
            pb.DownloadRequest(namespace="lww", record=b"r", item_key=b"big", offset=len(old) + 1)
        )
        assert (await refusal(beyond.read())).code is grpc.StatusCode.OUT_OF_RANGE
        await rig.storage.Put(put(b"r", b"inline", b"big"))
        assert await download() == (b"inline", google_crc32c.value(b"inline"))

    play(story, max_upload=3_000_000)
