"""The YCSB bench's peer on a cluster: the driver behind bare grpc.aio, asked by the very same messages.

A record is a partition of one table, a field a row of it. No tokens, no versions, no counts, no change feed, no policy
and no pipeline; an update is one plain statement. A scan goes on in the order of hashes, as YCSB's own binding of
Cassandra has it, where the service's is in the order of keys.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from itertools import groupby
from typing import Any

import grpc
import uvloop

from libs.cassandra.options import Options
from libs.cassandra.session import Session, Statement, opened
from wellspring.storage.v1 import storage_pb2 as pb
from wellspring.storage.v1 import storage_pb2_grpc

KEYSPACE = "ycsb_peer"
_KEYSPACE_CQL = (
    f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 1}}"
)
_TABLE_CQL = (
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.fields (record blob, field blob, value blob, PRIMARY KEY (record, field))"
)
_FIELDS = 10
"""Of a row of YCSB."""
_TIMEOUT_S = 60.0
"""What is slow shows in the figures; it is no failure."""
_Base: Any = storage_pb2_grpc.StorageServicer


class Rows(_Base):  # type: ignore[misc]
    """Puts, gets and scans rows of one table."""

    def __init__(self, session: Session, put: Statement, get: Statement, scan: Statement) -> None:
        self._session = session
        self._put = put
        self._get = get
        self._scan = scan

    async def Mutate(self, request: pb.MutateRequest, context: Any) -> pb.MutateResponse:
        """Writes the fields: one by its statement, several by a batch of one partition."""
        puts = [one.put for one in request.mutations]
        if len(puts) == 1:
            await self._session.execute(self._put, (request.record, puts[0].key, puts[0].value))
        else:
            await self._session.batch([(self._put, (request.record, put.key, put.value)) for put in puts])
        return pb.MutateResponse()

    async def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:
        """The fields of a record."""
        rows = await self._session.execute(self._get, (request.record,))
        return pb.GetResponse(items=[pb.Item(key=key, value=value) for key, value in rows])

    async def Scan(self, request: pb.ScanRequest, context: Any) -> AsyncIterator[pb.ScanResponse]:
        """So many records from the start of the range on, in one answer."""
        rows = await self._session.execute(self._scan, (request.ranges[0].start, _FIELDS * request.batch_records))
        told = pb.ScanResponse()
        for record, fields in groupby(rows, key=lambda row: row[0]):
            items = [pb.Item(key=key, value=value) for _, key, value in fields]
            told.records.append(pb.ScanResponse.Record(record=record, items=items))
        yield told


async def serve(address: str) -> None:
    """Serves until the process is ended; one line of JSON says where."""
    host, _, port = address.rpartition(":")
    options = Options(((host, int(port)),), KEYSPACE, "dc1", request_timeout_s=_TIMEOUT_S, replication={"dc1": 1})
    async with opened(options, keyspace=False) as session:
        await session.run(_KEYSPACE_CQL)
        await session.run(_TABLE_CQL)
        table = f"{KEYSPACE}.fields"
        rows = Rows(
            session,
            await session.prepare(f"INSERT INTO {table} (record, field, value) VALUES (?, ?, ?)", write=True),
            await session.prepare(f"SELECT field, value FROM {table} WHERE record = ?", write=False),
            await session.prepare(
                f"SELECT record, field, value FROM {table} WHERE token(record) >= token(?) LIMIT ?",
                write=False,
            ),
        )
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        storage_pb2_grpc.add_StorageServicer_to_server(rows, server)
        port_served = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(json.dumps({"ready": True, "listen": [f"127.0.0.1:{port_served}"], "workers": []}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
