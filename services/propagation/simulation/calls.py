"""Calls of the services as tests make them: a change, a declaration, a lease, a report; and errors taken apart."""

from collections.abc import Awaitable, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from services.propagation.simulation.serving import Served
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed

TEMPLATE = "w/template/a"


def change(change_id: str = "c", resource: str = TEMPLATE, version: int = 1, **more: Any) -> pb.Change:
    """A change of the template."""
    return pb.Change(id=change_id, resource=resource, version=version.to_bytes(16, "big"), **more)


def pages(count: int) -> list[str]:
    """Names of pages."""
    return [f"w/page/{at:05}" for at in range(count)]


def declaration(count: int, view: str = "html", inputs: Sequence[str] = (TEMPLATE,)) -> pb.PackedDeclarations:
    """So many pages that use the inputs."""
    return pb.PackedDeclarations(
        view=view,
        dependents="\0".join(pages(count)).encode(),
        inputs="\0".join(inputs).encode(),
        counts=packed.encode_counts([len(inputs)] * count),
        input_index=packed.encode_counts(list(range(len(inputs))) * count),
    )


async def declare(site: Served, count: int) -> pb.DeclareDependenciesResponse:
    """Declares so many pages."""
    request = pb.DeclareDependenciesRequest(packed=[declaration(count)])
    answer: pb.DeclareDependenciesResponse = await site.propagation.DeclareDependencies(request)
    return answer


async def publish(site: Served, *changes: pb.Change) -> Sequence[pb.PublishChangesResponse.Result]:
    """Publishes, and answers what became of each."""
    answer: pb.PublishChangesResponse = await site.propagation.PublishChanges(pb.PublishChangesRequest(changes=changes))
    return answer.results


async def lease(site: Served, items: int = 1000, view: str = "html", wait_s: int = 0) -> Sequence[work_pb2.Batch]:
    """Leases items of a view."""
    request = work_pb2.LeaseRequest(
        executor="test",
        capacity=[work_pb2.LeaseRequest.Capacity(view=view, items=items)],
        wait=Duration(seconds=wait_s),
    )
    answer: work_pb2.LeaseResponse = await site.work.Lease(request)
    return answer.batches


def done(batch: work_pb2.Batch, **more: Any) -> work_pb2.Completion:
    """A report that all of the batch is rendered."""
    ids = packed.decode_ids(batch.ids)
    hashes = np.full(len(ids), 1, "<u8").repeat(2).tobytes()
    return work_pb2.Completion(lease_id=batch.lease_id, fencing=batch.fencing, done=batch.ids, hashes=hashes, **more)


async def complete(site: Served, *completions: work_pb2.Completion) -> Sequence[work_pb2.CompleteResponse.Result]:
    """Reports, and answers what became of each."""
    answer: work_pb2.CompleteResponse = await site.work.Complete(work_pb2.CompleteRequest(completions=completions))
    return answer.results


def reason(status: status_pb2.Status) -> str:
    """The reason that a status carries, empty when it has none."""
    info = error_details_pb2.ErrorInfo()
    return next((info.reason for detail in status.details if detail.Unpack(info)), "")


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason of a refused call."""
    trailers: Any = error.trailing_metadata()
    details = next(value for key, value in trailers if key == "grpc-status-details-bin")
    return reason(status_pb2.Status.FromString(details))


def path_of(status: status_pb2.Status) -> str:
    """The first field that a status complains of."""
    wrong = error_details_pb2.BadRequest()
    return next((wrong.field_violations[0].field for detail in status.details if detail.Unpack(wrong)), "")


async def refused(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """The error of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value
