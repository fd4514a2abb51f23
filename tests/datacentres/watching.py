"""The feed of a namespace as one data centre tells it, followed over whatever breaks it off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import grpc

from tests.datacentres.asking import PATIENCE_S
from wellspring.storage.v1 import storage_pb2 as pb
from wellspring.storage.v1 import storage_pb2_grpc

_PAUSE_S: Final = 0.2
_BROKEN_OFF: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


class Watcher:
    """``told``: of each record the versions of its changes, in the order in which they were first told."""

    def __init__(self, stub: Any, namespace: str) -> None:
        self.told: dict[bytes, list[bytes]] = {}
        self._stub = stub
        self._request = pb.WatchRequest(namespace=namespace, from_beginning=True)

    async def follow(self) -> None:
        """For ever; goes on from the last answer when the stream breaks off. Raises AioRpcError when it is refused."""
        while True:
            try:
                async for answer in self._stub.Watch(self._request, timeout=PATIENCE_S):
                    for event in answer.events:
                        versions = self.told.setdefault(event.record, [])
                        if event.version not in versions:
                            versions.append(event.version)
                    self._request = pb.WatchRequest(namespace=self._request.namespace, resume_token=answer.resume_token)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _BROKEN_OFF:
                    raise
            await asyncio.sleep(_PAUSE_S)

    def has(self, record: bytes, versions: Sequence[bytes]) -> bool:
        """Whether all of these changes were told. Raises AssertionError when in another order."""
        told = self.told.get(record, [])
        if not set(versions) <= set(told):
            return False
        known = set(versions)
        assert [one for one in told if one in known] == list(versions), f"{record!r} was told in another order"
        return True


@contextlib.asynccontextmanager
async def watching(channel: grpc.aio.Channel, namespace: str) -> AsyncIterator[Watcher]:
    """Follows the namespace from its beginning, until left."""
    watcher = Watcher(storage_pb2_grpc.StorageStub(channel), namespace)
    following = asyncio.create_task(watcher.follow())
    try:
        yield watcher
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
