"""Asks a server for its health, as the gRPC health protocol has it (https://github.com/grpc/grpc/blob/master/doc/health-checking.md)."""

from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING: Final = "SERVING"
UNREACHABLE: Final = "UNREACHABLE"


def check(address: str, timeout_s: float = 2.0) -> str:
    """SERVING, NOT_SERVING, UNKNOWN, or UNREACHABLE when nothing (or no health service) answers at host:port."""
    # A pool of its own: a channel that failed waits before it tries again, and the next check must not inherit that.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError:
            return UNREACHABLE
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name
