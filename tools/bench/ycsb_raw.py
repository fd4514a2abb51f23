"""The YCSB bench's peer: the embedded engine behind bare grpc.aio, asked by the very same messages.

A field is a row of one family under record and field. No tokens, no versions, no counts, no change feed, no policy and
no pipeline; writes are durable and share their syncs, as the service's do.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import grpc
import uvloop

from libs.embedded.settings import FamilySpec
from libs.embedded.store import EmbeddedStore
from wellspring.storage.v1 import storage_pb2 as pb
from wellspring.storage.v1 import storage_pb2_grpc

_END = b"\0"
"""Between a record and its field; YCSB's keys are letters and digits."""
_Base: Any = storage_pb2_grpc.StorageServicer


class Rows(_Base):  # type: ignore[misc]
    """Puts, gets and scans rows of one family."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self._rows = store.family("rows")

    async def Mutate(self, request: pb.MutateRequest, context: Any) -> pb.MutateResponse:
        """Writes the fields, durably."""
        batch = self._store.batch()
        for mutation in request.mutations:
            batch.put(self._rows, request.record + _END + mutation.put.key, mutation.put.value)
        await self._store.commit(batch)
        return pb.MutateResponse()

    async def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:
        """The fields of a record."""
        prefix = request.record + _END
        fields = self._rows.scan(prefix)
        items = [pb.Item(key=key[len(prefix) :], value=value) for key, value in fields]
        return pb.GetResponse(items=items)

    async def Scan(self, request: pb.ScanRequest, context: Any) -> AsyncIterator[pb.ScanResponse]:
        """So many records from the start of the range on, in one answer."""
        told = pb.ScanResponse()
        for record, fields in _records(self._rows.scan(start=request.ranges[0].start)):
            items = [pb.Item(key=key, value=value) for key, value in fields]
            told.records.append(pb.ScanResponse.Record(record=record, items=items))
            if len(told.records) == request.batch_records:
                break
        yield told


def _records(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, list[tuple[bytes, bytes]]]]:
    for record, group in groupby(rows, key=lambda row: row[0].partition(_END)[0]):
        yield record, [(key.partition(_END)[2], value) for key, value in group]


async def serve(folder: Path) -> None:
    """Serves until the process is ended; one line of JSON says where."""
    store = EmbeddedStore.open(folder, schema="bench-ycsb", version=1, families=[FamilySpec("rows")])
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    storage_pb2_grpc.add_StorageServicer_to_server(Rows(store), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"ready": True, "listen": [f"127.0.0.1:{port}"], "workers": []}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
