"""Completions that name outputs out of other shards as dependencies: those items fail by name, others are taken."""

from collections.abc import Callable

import numpy as np

from services.propagation import packing
from services.propagation.domain.names import output_parts
from services.propagation.fleet.declarations import ShardOf
from services.propagation.fleet.errors import DependencyAcrossShards
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed

_OUTPUT = b"view/"
_TAB = b"\t"
_DETAIL_BYTES = 1024

Own = Callable[[str], bool]


def without_foreign(message: work_pb2.Completion, shard: int, shard_of: ShardOf, path: str) -> work_pb2.Completion:
    """The completion of a lease of `shard`, as it may be taken. Raises BatchInvalid, ResourceInvalid."""
    foreign = _foreign(message, lambda resource: shard_of(resource) == shard, path)
    if not foreign:
        return message
    taken = work_pb2.Completion()
    taken.CopyFrom(message)
    done = packing.ids(message.done, f"{path}.done")
    hashes = packing.hashes(message.hashes, len(done), f"{path}.hashes")
    kept = ~np.isin(done, np.array(list(foreign), np.uint32))
    taken.done = packed.encode_ids(done[kept])
    taken.hashes = np.ascontiguousarray(hashes[kept]).tobytes()
    _keep_sets(taken, foreign, path)
    for number in sorted(foreign):
        detail = (
            f"depends on {foreign[number]}, an output in another shard: among several shards a page may depend on"
            " outputs of its own resource only"
        )
        taken.failures.add(
            id=number,
            reason=DependencyAcrossShards.default_reason,
            detail=detail.encode()[:_DETAIL_BYTES].decode(errors="ignore"),
        )
    return taken


def _foreign(message: work_pb2.Completion, own: Own, path: str) -> dict[int, str]:
    """By item, an output that it names and that is not of this shard."""
    found: dict[int, str] = {}
    for one in message.dependencies:
        for dependency in one.dependencies:
            if output_parts(dependency.resource) is not None and not own(dependency.resource):
                found[one.id] = dependency.resource
    sets = message.packed_dependencies
    if not sets.inputs.startswith(_OUTPUT) and b"\0" + _OUTPUT not in sets.inputs:
        return found
    packing.inputs(sets.inputs, f"{path}.packed_dependencies.inputs")
    names = [entry.partition(_TAB)[0].decode() for entry in sets.inputs.split(b"\0")]
    strangers = {at: name for at, name in enumerate(names) if output_parts(name) is not None and not own(name)}
    if not strangers:
        return found
    dependents, counts, index = _sets(message, path)
    for item, at in zip(np.repeat(dependents, counts).tolist(), index.tolist(), strict=False):
        if at in strangers:
            found[item] = strangers[at]
    return found


def _sets(message: work_pb2.Completion, path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(items, how many inputs each has, places of the inputs), cut to what fits together: the shard tells what does
    not."""
    where = f"{path}.packed_dependencies"
    dependents = packing.ids(message.packed_dependencies.dependents, f"{where}.dependents")
    counts = packing.counts(message.packed_dependencies.counts, f"{where}.counts")
    index = packing.counts(message.packed_dependencies.input_index, f"{where}.input_index")
    length = min(len(dependents), len(counts))
    return dependents[:length], counts[:length], index


def _keep_sets(taken: work_pb2.Completion, foreign: dict[int, str], path: str) -> None:
    """Leaves out the sets of what failed."""
    left = [one for one in taken.dependencies if one.id not in foreign]
    del taken.dependencies[:]
    taken.dependencies.extend(left)
    if not taken.HasField("packed_dependencies"):
        return
    dependents, counts, index = _sets(taken, path)
    kept = ~np.isin(dependents, np.array(list(foreign), np.uint32))
    edges = np.repeat(kept, counts)
    taken.packed_dependencies.dependents = packed.encode_ids(dependents[kept])
    taken.packed_dependencies.counts = packed.encode_counts(counts[kept])
    taken.packed_dependencies.input_index = packed.encode_counts(index[: len(edges)][edges[: len(index)]])
