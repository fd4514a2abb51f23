"""A namespace mirrored onto another backend: complete, in step, compared; nothing foreign is touched."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from services.storage.domain.copying import Copied
from services.storage.domain.model import ALL, Command, Delete, WriteToken
from services.storage.domain.namespace import Namespace
from services.storage.rig import BLOB, Rig, fill, item, mutate, play, put, refusal
from services.storage.store.embedded import open_store
from services.storage.store.interface import Store, Write
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_pb2 as pb

SUCCEEDED = admin_pb.Operation.STATE_SUCCEEDED


def now_us() -> int:
    return time.time_ns() // 1000


class Other:
    """The other backend: on disk, so that it can be looked into and spoilt."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store: Any = None

    async def open(self) -> Store:
        store = open_store(self.path, now_us)
        self.store = store
        return store

    async def space(self, name: str = "lww") -> Namespace:
        spaces: list[Namespace] = await self.store.namespaces()
        return next(one for one in spaces if one.name == name)

    async def items(self, name: str = "lww") -> dict[tuple[bytes, bytes], tuple[Any, ...]]:
        return await contents(self.store, await self.space(name))


async def contents(store: Any, space: Namespace) -> dict[tuple[bytes, bytes], tuple[Any, ...]]:
    """All that readers see, write times and big values too."""
    found: dict[tuple[bytes, bytes], tuple[Any, ...]] = {}
    key = (b"", b"")
    async for part in store.copy(space):
        if isinstance(part, Copied):
            key = (part.record, part.put.key)
            found[key] = (part.put, part.version, part.ordered, part.write_us, part.size, b"")
        else:
            found[key] = (*found[key][:-1], found[key][-1] + part)
    return found


async def mirrored(rig: Rig, name: str = "lww", share: float = 1.0) -> Any:
    """A mirror that has ended."""
    request = admin_pb.MirrorNamespaceRequest(name=name, target_backend="other", shadow_read_share=share)
    operation = await rig.admin.MirrorNamespace(request)
    for _ in range(60_000):
        if operation.state != admin_pb.Operation.STATE_RUNNING:
            return operation
        await asyncio.sleep(0.001)
        operation = await rig.admin.GetOperation(admin_pb.GetOperationRequest(name=operation.name))
    raise AssertionError("it did not end")


def plays(tmp_path: Path, story: Callable[[Rig, Other], Awaitable[None]]) -> None:
    """Runs a story with a rig whose mirrors go to another backend."""
    other = Other(tmp_path / "other")
    play(lambda rig: story(rig, other), mirrors={"other": other.open})


async def ours(rig: Rig, name: str = "lww") -> dict[tuple[bytes, bytes], tuple[Any, ...]]:
    """The namespace itself."""
    space = next(one for one in await rig.store.namespaces() if one.name == name)
    return await contents(rig.store, space)


def test_everything_is_there_and_the_same(tmp_path: Path) -> None:
    async def story(rig: Rig, other: Other) -> None:
        for name in ("lww", "cas"):
            await fill(rig, name, 120)
            done = await mirrored(rig, name)
            assert done.state == SUCCEEDED, done
            assert (done.mirror.compared, done.mirror.different) == (121, 0), done
            there = await other.items(name)
            assert there == await ours(rig, name) and there[b"big", b""][-1] == BLOB

    plays(tmp_path, story)


def test_run_again_it_goes_on_with_what_changed_and_what_went(tmp_path: Path) -> None:
    async def story(rig: Rig, other: Other) -> None:
        for name in ("lww", "cas"):
            await fill(rig, name, 60)
            await mirrored(rig, name)
            for number in range(0, 60, 3):
                record = b"r%04d" % number
                await rig.storage.Delete(
                    pb.DeleteRequest(**_of(put(record, namespace=name)), selection=pb.Selection(all=True))
                )
                await rig.storage.Put(put(b"r%04d" % (number + 1), b"changed", key=b"k", namespace=name))
            await rig.storage.Mutate(mutate(b"new", item(b"1"), item(b"2"), namespace=name))
            done = await mirrored(rig, name)
            assert (done.state, done.mirror.different) == (SUCCEEDED, 0), done
            assert await other.items(name) == await ours(rig, name)

    plays(tmp_path, story)


def _of(request: pb.PutRequest) -> dict[str, Any]:
    return {"namespace": request.namespace, "record": request.record, "token": request.token}


def test_writes_meanwhile_are_followed(tmp_path: Path) -> None:
    async def story(rig: Rig, other: Other) -> None:
        await fill(rig, "lww", 200)
        stopping = asyncio.Event()

        async def write() -> None:
            number = 0
            while not stopping.is_set():
                number += 1
                await rig.storage.Put(put(b"r%04d" % (number * 7 % 250), b"%d" % number, key=b"k"))
                if number % 5 == 0:
                    gone = _of(put(b"r%04d" % (number * 11 % 250)))
                    await rig.storage.Delete(
                        pb.DeleteRequest(**gone, selection=pb.Selection(all=True), allow_missing=True)
                    )

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            done = await mirrored(rig)
            stopping.set()
        assert (done.state, done.mirror.different) == (SUCCEEDED, 0), done
        done = await mirrored(rig)
        assert (done.state, done.mirror.different) == (SUCCEEDED, 0), done
        assert await other.items() == await ours(rig)

    plays(tmp_path, story)


def test_what_differs_is_reported(tmp_path: Path) -> None:
    async def story(rig: Rig, other: Other) -> None:
        await fill(rig, "lww", 30)
        await mirrored(rig)
        space = await other.space()
        token = WriteToken(now_us() + 20_000_000, bytes(16))  # newer than all that the mirror may write
        for record in (b"r0001", b"r0002"):
            command = Command(record, token, (), (Delete(ALL),), (0,), bytes(16))
            await other.store.mutate([Write(space, command)])
        done = await mirrored(rig)
        report = done.mirror
        assert (done.state, report.compared, report.different) == (SUCCEEDED, 31, 2), done
        told = [(one.record, one.item_key, one.what) for one in report.differences]
        assert told == [(b"r0001", b"k", "only in the namespace"), (b"r0002", b"k", "only in the namespace")]
        assert (await mirrored(rig, share=0.0)).mirror.compared == 0

    plays(tmp_path, story)


def test_what_no_mirror_made_is_left_alone(tmp_path: Path) -> None:
    async def story(rig: Rig, other: Other) -> None:
        await fill(rig, "lww", 5)
        await mirrored(rig)
        space = await other.space()
        await other.store.put_document("mirror", "lww", None)
        failed = await mirrored(rig)
        assert failed.state == admin_pb.Operation.STATE_FAILED and "no mirror of this one" in failed.error.message
        assert await other.space() == space
        wrong = (
            admin_pb.MirrorNamespaceRequest(name="lww", target_backend="elsewhere"),
            admin_pb.MirrorNamespaceRequest(name="lww", target_backend="other", shadow_read_share=1.5),
            admin_pb.MirrorNamespaceRequest(name="lww", target_backend="other", shadow_read_share=float("nan")),
        )
        for request in wrong:
            assert (await refusal(rig.admin.MirrorNamespace(request))).reason == "INVALID_ARGUMENT"
        request = admin_pb.MirrorNamespaceRequest(name="nothing", target_backend="other")
        assert (await refusal(rig.admin.MirrorNamespace(request))).reason == "NAMESPACE_NOT_FOUND"

    plays(tmp_path, story)
