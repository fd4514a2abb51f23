"""A slice's report in the packed form that the engine takes."""

from collections.abc import Sequence

import numpy as np

from services.propagation.executor.slices import Item, Report
from wellspring.propagation.v1 import propagation_pb2, work_pb2
from wellspring_client import packed

DETAIL_LIMIT = 1024  # work.proto, Failure.detail


def completion_of(batch: work_pb2.Batch, report: Report) -> work_pb2.Completion:
    """The completion of `batch`'s part that the report is about."""
    done = sorted(report.done, key=lambda one: one[0].id)
    completion = work_pb2.Completion(
        lease_id=batch.lease_id,
        fencing=batch.fencing,
        done=packed.encode_ids([item.id for item, _, _ in done]),
        hashes=b"".join(output for _, output, _ in done),
        failures=[
            work_pb2.Failure(
                id=failed.item.id,
                reason=failed.reason,
                detail=failed.detail.encode()[:DETAIL_LIMIT].decode(errors="ignore"),
                retryable=failed.retryable,
            )
            for failed in report.failed
        ],
        saw_older=packed.encode_ids(sorted(item.id for item in report.saw_older)),
        renderer_seconds=report.renderer_seconds,
    )
    if done:
        completion.packed_dependencies.CopyFrom(_dependencies(batch.view, done))
    return completion


def _dependencies(
    view: str, done: Sequence[tuple[Item, bytes, list[tuple[str, str]]]]
) -> propagation_pb2.PackedDeclarations:
    inputs: dict[str, int] = {}
    index: list[int] = []
    counts: list[int] = []
    for _, _, dependencies in done:
        mine = dict.fromkeys(r if aspect in ("", "content") else f"{r}\t{aspect}" for r, aspect in dependencies)
        counts.append(len(mine))
        index += [inputs.setdefault(key, len(inputs)) for key in mine]
    return propagation_pb2.PackedDeclarations(
        view=view,
        dependents=packed.encode_ids([item.id for item, _, _ in done]),
        inputs="\0".join(inputs).encode(),
        counts=np.asarray(counts, "<u4").tobytes(),
        input_index=np.asarray(index, "<u4").tobytes(),
        mode=propagation_pb2.Declaration.MODE_REPLACE,
    )
