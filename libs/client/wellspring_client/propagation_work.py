"""For executors: leases and completions in the contract's own messages, for millions pass here."""

from typing import TypeVar

from google.protobuf.message import Message

from wellspring.propagation.v1 import work_pb2 as pb
from wellspring_client.calls import Caller

_SERVICE = pb.DESCRIPTOR.services_by_name["PropagationWork"]
_MARGIN_S = 5.0
_Answer = TypeVar("_Answer", bound=Message)


class PropagationWork:
    """The engine's work interface. A completion that was refused with LeaseLost is to be dropped."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def lease(self, request: pb.LeaseRequest, *, timeout: float | None = None) -> pb.LeaseResponse:
        """Wait, as long as the request says, for batches of work; ``timeout`` None: that and five seconds."""
        if timeout is None:
            timeout = request.wait.ToNanoseconds() / 1e9 + _MARGIN_S
        return await self._call("Lease", request, pb.LeaseResponse, timeout)

    async def complete(self, request: pb.CompleteRequest, *, timeout: float | None = None) -> pb.CompleteResponse:
        """Report what became of items; durable when it answers, each completion with a status of its own."""
        return await self._call("Complete", request, pb.CompleteResponse, timeout)

    async def extend(self, request: pb.ExtendRequest, *, timeout: float | None = None) -> pb.ExtendResponse:
        """Keep leases alive."""
        return await self._call("Extend", request, pb.ExtendResponse, timeout)

    async def views(self, *, timeout: float | None = None) -> pb.GetViewsResponse:
        """The views as the engine has them."""
        return await self._call("GetViews", pb.GetViewsRequest(), pb.GetViewsResponse, timeout)

    async def report_reads(
        self, request: pb.ReportReadsRequest, *, timeout: float | None = None
    ) -> pb.ReportReadsResponse:
        """Tell the engine how often pages are read."""
        return await self._call("ReportReads", request, pb.ReportReadsResponse, timeout)

    async def _call(self, method: str, request: Message, answer: type[_Answer], timeout: float | None) -> _Answer:
        return await self._caller.unary(_SERVICE, method, request, answer, timeout)
