"""Reflection (which services are here) and channelz (what the connections do), behind the same pipeline."""

from typing import Any

from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from libs.errors.errors import NotFound
from libs.rpc.call import Call

REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
CHANNELZ = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"]


def reflection_servicer(services: list[str]) -> object:
    """The servicer of ``grpc.reflection.v1alpha`` for the services of these full names."""
    library: Any = reflection  # its stubs lack the asyncio half
    servicer: object = library.aio.ReflectionServicer([*services, REFLECTION.full_name])
    return servicer


class _Verdict:
    """Catches what the library's servicer would tell a context of its own kind."""

    failed = False

    def set_code(self, code: object) -> None:
        self.failed = True

    def set_details(self, details: str) -> None:
        """Dropped: it is the library's text."""


class ChannelzServicer:
    """The servicer of ``grpc.channelz.v1``: gRPC's own account of this process's servers, channels and sockets."""

    def __getattr__(self, name: str) -> Any:
        if name not in CHANNELZ.methods_by_name:
            raise AttributeError(name)
        library: Any = channelz  # its stubs lack the servicer
        ask = getattr(library.ChannelzServicer, name)

        async def answer(request: Any, call: Call) -> Any:
            verdict = _Verdict()
            found = ask(request, verdict)
            if verdict.failed:
                raise NotFound("channelz knows nothing of that number", reason="CHANNELZ_NOT_FOUND")
            return found

        return answer
