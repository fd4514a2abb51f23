"""For tests: the service over a real gRPC server in this process, and short words for its requests."""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import google_crc32c
import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from libs.clock.clock import SystemClock
from libs.paging.paging import PageTokens
from libs.rpc.errors import DETAILS_KEY
from libs.rpc.options import ServerOptions
from libs.rpc.server import Server
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.telemetry import Telemetry
from services.storage.administration import Backups
from services.storage.domain.namespace import Deployment
from services.storage.service import Options, add_storage
from services.storage.store.local import LocalOptions, LocalStore
from services.storage.store.memory import memory_store
from services.storage.tokens import RESUME_LIFETIME_S, Tokens
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_admin_pb2_grpc, storage_pb2_grpc
from wellspring.storage.v1 import storage_pb2 as pb

BLOB: Final = os.urandom(2_500_000)
"""A big value."""


class Rig(NamedTuple):
    """A running service."""

    storage: Any
    admin: Any
    store: LocalStore
    channel: grpc.aio.Channel


@contextlib.asynccontextmanager
async def running(deployment: Deployment | None = None, **options: Any) -> AsyncIterator[Rig]:
    """The service on a store in memory, with a namespace "lww" and one "cas"."""
    clock = SystemClock()
    store = memory_store(lambda: clock.time_ns() // 1000)
    server = Server(ServerOptions(service="storage", drain_wait_s=0), Telemetry(TelemetryOptions(), "storage"))
    key = [os.urandom(32)]
    tokens = Tokens(PageTokens(key, clock), PageTokens(key, clock, RESUME_LIFETIME_S))
    with tempfile.TemporaryDirectory() as folder:
        options.setdefault("backups", Backups(Path(folder), 0))
        chosen = Options(token_window_us=LocalOptions().token_window_us, **options)
        await add_storage(server, store, tokens, clock, deployment or Deployment(), chosen)
        async with _served(server, store) as rig:
            yield rig


@contextlib.asynccontextmanager
async def _served(server: Server, store: LocalStore) -> AsyncIterator[Rig]:
    async with server, grpc.aio.insecure_channel(server.addresses[0]) as channel:
        rig = Rig(
            storage_pb2_grpc.StorageStub(channel), storage_admin_pb2_grpc.StorageAdminStub(channel), store, channel
        )
        await create(rig, "lww", admin_pb.MODE_LWW)
        await create(rig, "cas", admin_pb.MODE_CAS)
        yield rig


async def create(rig: Rig, name: str, mode: Any = admin_pb.MODE_LWW, **settings: Any) -> Any:
    """A namespace."""
    namespace = admin_pb.Namespace(name=name, mode=mode, **settings)
    return await rig.admin.CreateNamespace(admin_pb.CreateNamespaceRequest(namespace=namespace))


def token(offset_s: float = 0) -> pb.WriteToken:
    """A new token."""
    made = pb.WriteToken(nonce=os.urandom(16))
    made.time.FromMicroseconds(time.time_ns() // 1000 + int(offset_s * 1e6))
    return made


def put(record: bytes, value: bytes = b"v", key: bytes = b"", namespace: str = "lww", **rest: Any) -> pb.PutRequest:
    """A request to put one item."""
    item = rest.pop("item", None) or pb.Item(key=key, value=value)
    rest.setdefault("token", token())
    return pb.PutRequest(namespace=namespace, record=record, item=item, **rest)


class Refusal(NamedTuple):
    """How a call failed."""

    code: grpc.StatusCode
    reason: str
    fields: tuple[str, ...]
    metadata: dict[str, str]


async def refusal(call: Any) -> Refusal:
    """The failure of a call that must fail."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        trailers: Any = error.trailing_metadata() or ()
        raw = dict(trailers).get(DETAILS_KEY)
        assert raw, f"{error.code()} {error.details()} has no details"
        return told(error.code(), status_pb2.Status.FromString(raw))
    raise AssertionError(f"answered instead of refused: {answer}")


def told(code: Any, status: Any) -> Refusal:
    """What a rich status tells."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info) if detail.Is(info.DESCRIPTOR) else detail.Unpack(bad)
    assert info.domain == "wellspring"
    return Refusal(code, info.reason, tuple(one.field for one in bad.field_violations), dict(info.metadata))


def play(story: Any, **options: Any) -> None:
    """Runs a coroutine function of a ``Rig``."""

    async def run() -> None:
        async with running(**options) as rig:
            await story(rig)

    asyncio.run(run())


def mutate(record: bytes, *mutations: pb.Mutation, namespace: str = "lww", **rest: Any) -> pb.MutateRequest:
    """A request to change a record."""
    rest.setdefault("token", token())
    return pb.MutateRequest(namespace=namespace, record=record, mutations=mutations, **rest)


def item(key: bytes = b"", value: bytes = b"v", **rest: Any) -> pb.Mutation:
    """A put as a part of a request."""
    return pb.Mutation(put=pb.Item(key=key, value=value, **rest))


async def upload(rig: Rig, record: bytes, value: bytes, namespace: str = "lww") -> None:
    """A big value."""

    async def requests() -> AsyncIterator[pb.UploadRequest]:
        yield pb.UploadRequest(header=pb.UploadRequest.Header(namespace=namespace, record=record, token=token()))
        for at in range(0, len(value), 1 << 20):
            yield pb.UploadRequest(chunk=value[at : at + (1 << 20)])
        yield pb.UploadRequest(finish=pb.UploadRequest.Finish(crc32c=google_crc32c.value(value)))

    await rig.storage.Upload(requests())


async def fill(rig: Rig, namespace: str = "lww", records: int = 300) -> None:
    """Some records, one of them with a big value."""
    for number in range(records):
        item = pb.Item(key=b"k", value=b"v%d" % number, content_type="text/plain", attributes={"a": str(number)})
        await rig.storage.Put(put(b"r%04d" % number, item=item, namespace=namespace))
    await upload(rig, b"big", BLOB, namespace)
