"""The session bench's peer: the engine behind bare grpc.aio, a row read by its key, a row written durably, no more.

No tokens, no policy, no pipeline. Rows are as large as a session's; writes share their syncs, as the service's do.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop

from libs.embedded.settings import FamilySpec
from libs.embedded.store import EmbeddedStore
from wellspring.bench.v1 import echo_pb2, echo_pb2_grpc

ROWS = 10_000
ROW_BYTES = 400
READ, WRITE = "wellspring.bench.v1.Echo/Say", "wellspring.bench.v1.Echo/SayBatch"
_Base: Any = echo_pb2_grpc.EchoServicer


def row_name(number: int) -> bytes:
    """A row's key."""
    return b"row-%09d" % number


class Rows(_Base):  # type: ignore[misc]
    """Reads and writes rows of one family."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self._rows = store.family("rows")
        self._next = ROWS

    async def Say(self, request: echo_pb2.SayRequest, context: Any) -> echo_pb2.SayResponse:
        """The row that the payload names."""
        row = self._rows.get(request.payload)
        if row is None:
            raise LookupError("no such row")
        return echo_pb2.SayResponse(payload=row)

    async def SayBatch(self, request: echo_pb2.SayBatchRequest, context: Any) -> echo_pb2.SayBatchResponse:
        """Writes each payload as a row of its own, durably."""
        batch = self._store.batch()
        for payload in request.payloads:
            batch.put(self._rows, row_name(self._next), payload)
            self._next += 1
        await self._store.commit(batch)
        return echo_pb2.SayBatchResponse()


async def serve(folder: Path) -> None:
    """Serves until the process is ended; one line of JSON says where."""
    store = EmbeddedStore.open(folder, schema="bench-rows", version=1, families=[FamilySpec("rows")])
    batch = store.batch()
    for number in range(ROWS):
        batch.put(store.family("rows"), row_name(number), os.urandom(ROW_BYTES))
    await store.commit(batch)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    echo_pb2_grpc.add_EchoServicer_to_server(Rows(store), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"ready": True, "listen": [f"127.0.0.1:{port}"], "workers": []}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
