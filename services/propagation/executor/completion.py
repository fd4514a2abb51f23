"""Reports in the packed form that the engine takes."""

from collections.abc import Sequence

import numpy as np

from services.propagation.executor.pages import Dependencies, Item
from services.propagation.executor.slices import Failed, Report
from wellspring.propagation.v1 import propagation_pb2, work_pb2
from wellspring_client import packed

DETAIL_LIMIT = 1024  # work.proto, Failure.detail

Done = tuple[Item, bytes, Dependencies | None]


def completion_of(batch: work_pb2.Batch, reports: Sequence[Report]) -> work_pb2.Completion:
    """The completion of the parts of `batch` that the reports are about. What was withheld is not among it."""
    done = sorted([one for report in reports for one in report.done])
    completion = work_pb2.Completion(
        lease_id=batch.lease_id,
        fencing=batch.fencing,
        done=packed.encode_ids([item.id for item, _, _ in done]),
        hashes=b"".join([output for _, output, _ in done]),
        failures=[_failure(failed) for report in reports for failed in report.failed],
        saw_older=packed.encode_ids(sorted([item.id for report in reports for item in report.saw_older])),
        renderer_seconds=sum(report.renderer_seconds for report in reports),
    )
    telling = [(item, dependencies) for item, _, dependencies in done if dependencies is not None]
    if telling:
        completion.packed_dependencies.CopyFrom(_dependencies(batch.view, telling))
    return completion


def released(batch: work_pb2.Batch, items: Sequence[Item]) -> work_pb2.Completion:
    """Items of `batch` that go back as they came."""
    ids = packed.encode_ids(sorted([item.id for item in items]))
    return work_pb2.Completion(lease_id=batch.lease_id, fencing=batch.fencing, released=ids)


def _failure(failed: Failed) -> work_pb2.Failure:
    failure = work_pb2.Failure(
        id=failed.item.id,
        reason=failed.reason[:64],
        detail=failed.detail.encode(errors="replace")[:DETAIL_LIMIT].decode(errors="ignore"),
        retryable=failed.retryable,
    )
    if failed.retry_after_s > 0:
        failure.retry_after.FromNanoseconds(int(failed.retry_after_s * 1e9))
    return failure


def _dependencies(view: str, telling: Sequence[tuple[Item, Dependencies]]) -> propagation_pb2.PackedDeclarations:
    inputs: dict[str, int] = {}
    known: dict[Dependencies, list[int]] = {}
    index: list[int] = []
    counts: list[int] = []
    for _, dependencies in telling:
        mine = known.get(dependencies)
        if mine is None:
            keys = dict.fromkeys(r if aspect in ("", "content") else f"{r}\t{aspect}" for r, aspect in dependencies)
            mine = known[dependencies] = [inputs.setdefault(key, len(inputs)) for key in keys]
        counts.append(len(mine))
        index += mine
    return propagation_pb2.PackedDeclarations(
        view=view,
        dependents=packed.encode_ids([item.id for item, _ in telling]),
        inputs="\0".join(inputs).encode(),
        counts=np.asarray(counts, "<u4").tobytes(),
        input_index=np.asarray(index, "<u4").tobytes(),
        mode=propagation_pb2.Declaration.MODE_REPLACE,
    )
