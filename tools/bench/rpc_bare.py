"""The raw library beside which the pipeline is measured: an echo on grpc.aio and uvloop with nothing around it."""

import asyncio
import json
import sys
from typing import Any

import grpc
import uvloop

from wellspring.bench.v1 import echo_pb2, echo_pb2_grpc

_Base: Any = echo_pb2_grpc.EchoServicer


class Echo(_Base):  # type: ignore[misc]
    """Answers what it is asked."""

    async def Say(self, request: echo_pb2.SayRequest, context: Any) -> echo_pb2.SayResponse:
        """The payload of the request."""
        return echo_pb2.SayResponse(payload=request.payload)

    async def SayBatch(self, request: echo_pb2.SayBatchRequest, context: Any) -> echo_pb2.SayBatchResponse:
        """The payloads of the request."""
        return echo_pb2.SayBatchResponse(payloads=request.payloads)


async def serve(engine: str) -> None:
    """Serves until the process is killed; one line of JSON says where."""
    server: Any
    if engine == "native":
        import pygrpc_native.aio

        server = pygrpc_native.aio.server()
    else:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    echo_pb2_grpc.add_EchoServicer_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"ready": True, "listen": [f"127.0.0.1:{port}"], "workers": []}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1] if len(sys.argv) > 1 else "grpcio"))
