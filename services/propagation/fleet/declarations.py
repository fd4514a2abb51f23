"""Declarations divided among the shards of their dependents."""

from collections.abc import Callable, Sequence

import numpy as np
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from services.propagation import packing
from services.propagation.domain.errors import BatchInvalid, ResourceInvalid
from services.propagation.domain.names import split_names
from wellspring.propagation.v1 import propagation_pb2

ShardOf = Callable[[str], int]


def renumbered(status: status_pb2.Status, there: str, here: str) -> status_pb2.Status:
    """What a shard says of a field, as the caller's request has it: `there` is the path in the shard's own part."""
    if not status.code or there == here:
        return status
    told = status_pb2.Status(code=status.code, message=status.message.replace(there, here))
    for detail in status.details:
        wrong = error_details_pb2.BadRequest()
        if detail.Unpack(wrong):
            for violation in wrong.field_violations:
                violation.field = violation.field.replace(there, here)
            told.details.add().Pack(wrong)
        else:
            told.details.append(detail)
    return told


def divided(
    message: propagation_pb2.PackedDeclarations, shard_of: ShardOf, path: str
) -> dict[int, propagation_pb2.PackedDeclarations]:
    """By shard, the part of it whose dependents are there. Raises BatchInvalid, ResourceInvalid."""
    dependents = [name.decode() for name in split_names(message.dependents, f"{path}.dependents")]
    packing.inputs(message.inputs, f"{path}.inputs")
    inputs = message.inputs.split(b"\0") if message.inputs else []
    counts = packing.counts(message.counts, f"{path}.counts")
    index = packing.counts(message.input_index, f"{path}.input_index")
    _check(dependents, counts, index, len(inputs), path)
    places = np.array([shard_of(dependent) for dependent in dependents], np.int64)
    owners = np.repeat(places, counts)
    parts: dict[int, propagation_pb2.PackedDeclarations] = {}
    for shard in np.unique(places).tolist():
        mine, edges = places == shard, index[owners == shard]
        used, renumbered = np.unique(edges, return_inverse=True)
        parts[shard] = propagation_pb2.PackedDeclarations(
            view=message.view,
            dependents="\0".join(dependents[at] for at in np.flatnonzero(mine)).encode(),
            inputs=b"\0".join(inputs[at] for at in used),
            counts=counts[mine].astype("<u4").tobytes(),
            input_index=renumbered.astype("<u4").tobytes(),
            mode=message.mode,
        )
    return parts


def _check(dependents: Sequence[str], counts: np.ndarray, index: np.ndarray, inputs: int, path: str) -> None:
    """What one shard could not see, or would tell by places in its own part."""
    if len(counts) != len(dependents):
        raise BatchInvalid.field(f"{path}.counts", f"has {len(counts):,} entries for {len(dependents):,} dependents")
    if int(counts.sum()) != len(index):
        raise BatchInvalid.field(
            path, f"counts sum to {int(counts.sum()):,} but input_index has {len(index):,} entries"
        )
    if len(index) and int(index.max()) >= inputs:
        raise BatchInvalid.field(f"{path}.input_index", f"holds {int(index.max())}; there are {inputs} inputs")
    if len(set(dependents)) < len(dependents):
        seen: set[str] = set()
        second = next(at for at, name in enumerate(dependents) if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ResourceInvalid.field(f"{path}[{second}]", "is a dependent that the request names before")
