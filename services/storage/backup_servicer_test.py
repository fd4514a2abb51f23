"""Snapshots, restores, exports, imports, operations over gRPC: what callers may rely on, and how they are refused."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.storage.administration import Backups
from services.storage.backup.format import END_SIZE
from services.storage.rig import BLOB, Rig, create, fill, play, put, refusal
from services.storage.store.local import LocalStore
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_pb2 as pb

FAILED = admin_pb.Operation.STATE_FAILED
SUCCEEDED = admin_pb.Operation.STATE_SUCCEEDED


async def ended(rig: Rig, operation: Any) -> Any:
    """The operation once it has ended; a test's own time limit is the only one."""
    while operation.state == admin_pb.Operation.STATE_RUNNING:
        await asyncio.sleep(0.01)
        operation = await rig.admin.GetOperation(admin_pb.GetOperationRequest(name=operation.name))
    return operation


async def snapshot(rig: Rig, name: str, namespace: str = "lww") -> Any:
    """A snapshot, taken."""
    request = admin_pb.SnapshotNamespaceRequest(name=namespace, snapshot=name)
    return await ended(rig, await rig.admin.SnapshotNamespace(request))


async def restore(rig: Rig, name: str, namespace: str) -> Any:
    """A restore that has ended."""
    request = admin_pb.RestoreNamespaceRequest(snapshot=name, namespace=namespace)
    return await ended(rig, await rig.admin.RestoreNamespace(request))


async def contents(rig: Rig, namespace: str) -> dict[bytes, list[Any]]:
    """All records with their items, write times included."""
    found: dict[bytes, list[Any]] = {}
    async for answer in rig.storage.Scan(pb.ScanRequest(namespace=namespace)):
        for record in answer.records:
            found.setdefault(record.record, []).extend(record.items)
    return found


async def download(rig: Rig, record: bytes, namespace: str) -> bytes:
    """A big value back."""
    request = pb.DownloadRequest(namespace=namespace, record=record)
    return b"".join([answer.chunk async for answer in rig.storage.Download(request)])


async def exported(rig: Rig, namespace: str = "lww") -> tuple[bytes, bytes]:
    """The stream and its checksum."""
    data, sha = b"", b""
    async for answer in rig.admin.ExportNamespace(admin_pb.ExportNamespaceRequest(name=namespace)):
        assert len(answer.data) <= 1 << 20 and not sha
        data, sha = data + answer.data, answer.sha256
    assert sha == hashlib.sha256(data[:-END_SIZE]).digest() == data[-32:]
    return data, sha


async def imported(rig: Rig, namespace: str, data: bytes, sha: bytes | None = None, size: int = 100_000) -> Any:
    """The answer to an import."""

    async def requests() -> AsyncIterator[admin_pb.ImportNamespaceRequest]:
        yield admin_pb.ImportNamespaceRequest(namespace=namespace)
        for at in range(0, len(data), size):
            yield admin_pb.ImportNamespaceRequest(data=data[at : at + size])
        if sha != b"none":
            finish = admin_pb.ImportNamespaceRequest.Finish(sha256=data[-32:] if sha is None else sha)
            yield admin_pb.ImportNamespaceRequest(finish=finish)

    return await rig.admin.ImportNamespace(requests())


def test_a_snapshot_is_restored_as_it_was() -> None:
    async def story(rig: Rig) -> None:
        await fill(rig)
        taken = await snapshot(rig, "nightly-1")
        assert taken.state == SUCCEEDED and taken.kind == "snapshot" and taken.target == "lww"
        assert (taken.snapshot.records, taken.snapshot.items, taken.done) == (301, 301, 301)
        before = await contents(rig, "lww")
        await rig.storage.Put(put(b"later", b"x"))
        listed = await rig.admin.ListSnapshots(admin_pb.ListSnapshotsRequest())
        assert list(listed.snapshots) == [taken.snapshot] and len(taken.snapshot.checksum) == 32
        done = await restore(rig, "nightly-1", "again")
        assert done.state == SUCCEEDED and done.namespace.name == "again", done
        assert done.namespace.state == admin_pb.Namespace.STATE_READY
        assert await contents(rig, "again") == before
        assert await download(rig, b"big", "again") == BLOB
        usage = [await rig.admin.GetUsage(admin_pb.GetUsageRequest(name=name)) for name in ("lww", "again")]
        assert (usage[0].records, usage[0].items) == (usage[1].records + 1, usage[1].items + 1)
        await rig.storage.Put(put(b"r0000", b"changed", namespace="again", key=b"k"))
        assert (await contents(rig, "lww"))[b"r0000"] == before[b"r0000"]

    play(story)


def test_a_restored_namespace_keeps_its_settings_but_is_bound_to_nothing() -> None:
    async def story(rig: Rig) -> None:
        caller = admin_pb.Caller(identity="*", read=True, write=True)
        binding = admin_pb.Binding(resource_prefix="enwiki/page/")
        await create(rig, "wiki", callers=[caller], binding=binding, description="text", labels={"a": "b"})
        assert (await snapshot(rig, "w", "wiki")).state == SUCCEEDED
        made = (await restore(rig, "w", "wiki2")).namespace
        assert (made.description, dict(made.labels), list(made.callers)) == ("text", {"a": "b"}, [caller])
        assert not made.HasField("binding")

    play(story)


def test_refusals_of_snapshots_and_restores() -> None:
    async def story(rig: Rig) -> None:
        async def told(method: str, request: Any) -> str:
            return (await refusal(getattr(rig.admin, method)(request))).reason

        take, again = admin_pb.SnapshotNamespaceRequest, admin_pb.RestoreNamespaceRequest
        for name in ("", "../x", "UPPER", "a/b", "x" * 129, ".hidden"):
            refused = await refusal(rig.admin.SnapshotNamespace(take(name="lww", snapshot=name)))
            assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", ("snapshot",))
            assert await told("DeleteSnapshot", admin_pb.DeleteSnapshotRequest(name=name)) == "INVALID_ARGUMENT"
        assert await told("SnapshotNamespace", take(name="none", snapshot="s")) == "NAMESPACE_NOT_FOUND"
        assert await told("RestoreNamespace", again(snapshot="s", namespace="x")) == "SNAPSHOT_NOT_FOUND"
        assert await told("DeleteSnapshot", admin_pb.DeleteSnapshotRequest(name="s")) == "SNAPSHOT_NOT_FOUND"
        await snapshot(rig, "s")
        assert await told("SnapshotNamespace", take(name="cas", snapshot="s")) == "SNAPSHOT_EXISTS"
        assert await told("RestoreNamespace", again(snapshot="s", namespace="cas")) == "NAMESPACE_EXISTS"
        assert await told("RestoreNamespace", again(snapshot="s", namespace="Bad")) == "INVALID_ARGUMENT"
        get = admin_pb.GetOperationRequest
        assert await told("GetOperation", get(name="snapshot-0")) == "OPERATION_NOT_FOUND"
        assert await told("GetOperation", get()) == "INVALID_ARGUMENT"
        await rig.admin.DeleteSnapshot(admin_pb.DeleteSnapshotRequest(name="s"))
        assert not (await rig.admin.ListSnapshots(admin_pb.ListSnapshotsRequest())).snapshots

    play(story)


def test_without_a_folder_backups_are_refused_by_name() -> None:
    async def story(rig: Rig) -> None:
        for method, request in (
            ("SnapshotNamespace", admin_pb.SnapshotNamespaceRequest(name="lww", snapshot="s")),
            ("RestoreNamespace", admin_pb.RestoreNamespaceRequest(snapshot="s", namespace="x")),
            ("ListSnapshots", admin_pb.ListSnapshotsRequest()),
            ("DeleteSnapshot", admin_pb.DeleteSnapshotRequest(name="s")),
        ):
            refused = await refusal(getattr(rig.admin, method)(request))
            assert (refused.code, refused.reason) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "BACKUPS_NOT_CONFIGURED",
            )

    play(story, backups=None)


def test_a_damaged_snapshot_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        await fill(rig, records=50)
        await snapshot(rig, "s")
        path = tmp_path / "snapshots" / "s.export"
        whole = path.read_bytes()
        size = len(whole)
        for at in (0, 25, 100, size // 3, size // 2, size - END_SIZE - 1, size - END_SIZE, size - 40, size - 1):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
            request = admin_pb.RestoreNamespaceRequest(snapshot="s", namespace="again")
            try:
                done = await ended(rig, await rig.admin.RestoreNamespace(request))
            except grpc.aio.AioRpcError as error:
                assert error.code() in (grpc.StatusCode.DATA_LOSS, grpc.StatusCode.INVALID_ARGUMENT), (at, error)
            else:
                assert done.state == FAILED and done.error.code in (3, 15), (at, done)
            assert (await refusal(rig.storage.Get(pb.GetRequest(namespace="again", record=b"r0000")))).reason == (
                "NAMESPACE_NOT_FOUND"
            )
        path.write_bytes(whole[: size // 2])
        assert [one.name for one in (await rig.admin.ListSnapshots(admin_pb.ListSnapshotsRequest())).snapshots] == ["s"]
        path.write_bytes(whole)
        assert (await restore(rig, "s", "again")).state == SUCCEEDED

    play(story, backups=Backups(tmp_path, 0))


def test_operations_are_listed_by_pages_and_kept_after_their_end() -> None:
    async def story(rig: Rig) -> None:
        for number in range(5):
            await snapshot(rig, f"s{number}", "lww" if number % 2 else "cas")
        names: list[str] = []
        request = admin_pb.ListOperationsRequest(page_size=2)
        while True:
            page = await rig.admin.ListOperations(request)
            names += [one.snapshot.name for one in page.operations]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        assert names == ["s4", "s3", "s2", "s1", "s0"]
        page = await rig.admin.ListOperations(admin_pb.ListOperationsRequest(target="lww"))
        assert [one.snapshot.name for one in page.operations] == ["s3", "s1"]
        found: list[str] = []
        listing = admin_pb.ListSnapshotsRequest(page_size=2, namespace="cas")
        while True:
            answer = await rig.admin.ListSnapshots(listing)
            found += [one.name for one in answer.snapshots]
            listing.page_token = answer.next_page_token
            if not answer.next_page_token:
                break
        assert found == ["s0", "s2", "s4"]
        ended_one = page.operations[0]
        again = await rig.admin.CancelOperation(admin_pb.CancelOperationRequest(name=ended_one.name))
        assert again == ended_one

    play(story)


def test_a_cancelled_restore_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    load, cancelled = LocalStore.load, asyncio.Event()

    async def held(*arguments: Any, **named: Any) -> Any:
        await cancelled.wait()
        return await load(*arguments, **named)

    async def story(rig: Rig) -> None:
        await fill(rig, records=1500)
        await snapshot(rig, "s")
        begun = await rig.admin.RestoreNamespace(admin_pb.RestoreNamespaceRequest(snapshot="s", namespace="again"))
        same = await rig.admin.RestoreNamespace(admin_pb.RestoreNamespaceRequest(snapshot="s", namespace="again"))
        assert same.name == begun.name, "the same request again began another"
        refused = await refusal(rig.admin.DeleteSnapshot(admin_pb.DeleteSnapshotRequest(name="s")))
        assert refused.reason == "SNAPSHOT_IN_USE"
        await rig.admin.CancelOperation(admin_pb.CancelOperationRequest(name=begun.name))
        cancelled.set()
        done = await ended(rig, begun)
        assert done.state == admin_pb.Operation.STATE_CANCELLED and done.HasField("end_time")
        assert (await refusal(rig.admin.GetNamespace(admin_pb.GetNamespaceRequest(name="again")))).reason == (
            "NAMESPACE_NOT_FOUND"
        )
        assert (await restore(rig, "s", "again")).state == SUCCEEDED

    monkeypatch.setattr(LocalStore, "load", held)
    play(story)


def test_an_export_is_one_moment_and_may_be_read_again_from_anywhere() -> None:
    async def story(rig: Rig) -> None:
        await fill(rig)
        answers = []
        request = admin_pb.ExportNamespaceRequest(name="lww")
        async for answer in rig.admin.ExportNamespace(request):
            answers.append(answer)
            await rig.storage.Put(put(b"r%04d" % len(answers), b"changed", key=b"k"))
        assert len(answers) > 3
        data = b"".join(one.data for one in answers)
        for index, one in enumerate(answers):
            rest = [
                again
                async for again in rig.admin.ExportNamespace(
                    admin_pb.ExportNamespaceRequest(name="lww", resume_token=one.resume_token)
                )
            ]
            assert b"".join(again.data for again in rest) == b"".join(later.data for later in answers[index + 1 :])
            assert rest[-1].sha256 == answers[-1].sha256 == data[-32:]
        foreign = admin_pb.ExportNamespaceRequest(name="cas", resume_token=answers[0].resume_token)
        assert (await refusal(_first(rig.admin.ExportNamespace(foreign)))).reason == "PAGE_TOKEN_INVALID"
        answer = await imported(rig, "copy", data) if await create(rig, "copy") else None
        assert answer is not None and (answer.records, answer.items) == (301, 301)
        assert all(items[0].value != b"changed" for items in (await contents(rig, "copy")).values())

    play(story)


async def _first(stream: Any) -> Any:
    async for answer in stream:
        return answer
    raise AssertionError("an empty stream")


def test_an_import_twice_is_as_good_as_once() -> None:
    async def story(rig: Rig) -> None:
        for mode in ("lww", "cas"):
            await fill(rig, mode)
            data, _ = await exported(rig, mode)
            await create(rig, mode + "2", admin_pb.MODE_LWW if mode == "lww" else admin_pb.MODE_CAS)
            for size in (100_000, 3_000_000):
                answer = await imported(rig, mode + "2", data, size=size)
                assert (answer.records, answer.items) == (301, 301)
                assert await contents(rig, mode + "2") == await contents(rig, mode)
                usage = await rig.admin.GetUsage(admin_pb.GetUsageRequest(name=mode + "2"))
                assert (usage.records, usage.items) == (301, 301)
            assert await download(rig, b"big", mode + "2") == BLOB

    play(story)


def test_an_import_that_is_not_whole_writes_nothing() -> None:
    async def story(rig: Rig) -> None:
        await fill(rig, records=50)
        data, sha = await exported(rig)
        await create(rig, "copy")
        size = len(data)
        damaged = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in (30, size // 2, size - 70, size - 1)]
        for some, digest in (
            *((one, None) for one in damaged),
            (data[: size // 2], sha),
            (data, b"none"),
            (data, b"\0" * 32),
            (data + b"more", sha),
            (b"", b"none"),
            (b"PK\x03\x04 something else entirely", sha),
        ):
            refused = await refusal(imported(rig, "copy", some, digest))
            assert refused.reason in ("CHECKSUM_MISMATCH", "EXPORT_INVALID", "INVALID_ARGUMENT"), refused
            assert await contents(rig, "copy") == {}
        assert (await refusal(imported(rig, "cas", data))).reason == "MODE_MISMATCH"
        assert (await refusal(imported(rig, "nothing", data))).reason == "NAMESPACE_NOT_FOUND"

    play(story)


def test_an_import_keeps_to_the_quota() -> None:
    async def story(rig: Rig) -> None:
        await fill(rig, records=100)
        data, _ = await exported(rig)
        for name, quota in (
            ("bytes", admin_pb.Quota(max_bytes=1_000_000)),
            ("records", admin_pb.Quota(max_records=100)),
        ):
            await create(rig, name, quota=quota)
            refused = await refusal(imported(rig, name, data))
            assert (refused.reason, refused.metadata["quota"]) == ("QUOTA_EXCEEDED", f"max_{name}")
            assert await contents(rig, name) == {}
        await create(rig, "part", quota=admin_pb.Quota(max_records=101))
        await rig.storage.Put(put(b"other", namespace="part"))
        assert (await refusal(imported(rig, "part", data))).reason == "QUOTA_EXCEEDED"
        space = await rig.admin.GetNamespace(admin_pb.GetNamespaceRequest(name="part"))
        space.quota.max_records = 200
        space.quota.max_writes_per_s = 1000
        await rig.admin.UpdateNamespace(admin_pb.UpdateNamespaceRequest(namespace=space))
        assert (await imported(rig, "part", data)).records == 101
        assert len(await contents(rig, "part")) == 102

    play(story)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        await fill(rig, records=20)
        failed = await snapshot(rig, "s")
        assert failed.state == FAILED and failed.error.code == 8 and "reserve" in failed.error.message
        stream = rig.admin.ExportNamespace(admin_pb.ExportNamespaceRequest(name="lww"))
        assert (await refusal(_first(stream))).reason == "DISK_FULL"
        assert (await refusal(imported(rig, "cas", b"wellspring export 1\n" * 100_000))).reason in (
            "DISK_FULL",
            "CHECKSUM_MISMATCH",
        )

    play(story, backups=Backups(tmp_path, 1 << 60))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_namespace_with_very_many_callers_is_listed_and_restored() -> None:
    async def story(rig: Rig) -> None:
        callers = [admin_pb.Caller(identity=f"{number:04}" + "x" * 500, read=True) for number in range(999)]
        callers.append(admin_pb.Caller(identity="*", read=True, write=True))
        await create(rig, "many", callers=callers)
        assert (await snapshot(rig, "many", "many")).state == SUCCEEDED
        listed = await rig.admin.ListSnapshots(admin_pb.ListSnapshotsRequest(namespace="many"))
        assert [one.name for one in listed.snapshots] == ["many"] and listed.snapshots[0].checksum
        assert len((await restore(rig, "many", "many2")).namespace.callers) == 1000

    play(story)
