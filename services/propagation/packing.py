"""Packed fields of requests: decoded with numpy, checked against hostile input, refused with the field's path."""

from collections.abc import Sequence

import numpy as np

from libs.ids.ids import VERSION_BYTES
from services.propagation.domain import names
from services.propagation.domain.edges import Declared
from services.propagation.domain.errors import BatchInvalid, ResourceInvalid
from services.propagation.store.interface import Bytes16, Numbers
from wellspring.propagation.v1 import propagation_pb2, work_pb2
from wellspring_client import packed

_TAB = b"\t"


def ids(field: bytes, path: str) -> Numbers:
    """Ascending numbers without doubles. Raises BatchInvalid."""
    try:
        return packed.decode_ids(field)
    except ValueError as error:
        raise BatchInvalid.field(path, str(error)) from None


def counts(field: bytes, path: str) -> Numbers:
    """Numbers in any order. Raises BatchInvalid."""
    try:
        return packed.decode_counts(field)
    except ValueError as error:
        raise BatchInvalid.field(path, str(error)) from None


def hashes(field: bytes, count: int, path: str) -> Bytes16:
    """`count` hashes of 16 bytes. Raises BatchInvalid."""
    if len(field) != count * packed.HASH_BYTES:
        raise BatchInvalid.field(
            path, f"is {len(field):,} bytes long; {count:,} hashes of {packed.HASH_BYTES} bytes are expected"
        )
    return np.frombuffer(field, "V16")


def versions(field: bytes, path: str) -> list[bytes]:
    """Of 16 bytes each. Raises BatchInvalid."""
    if len(field) % VERSION_BYTES:
        raise BatchInvalid.field(path, f"is {len(field):,} bytes long; whole versions of {VERSION_BYTES} are allowed")
    return [field[at : at + VERSION_BYTES] for at in range(0, len(field), VERSION_BYTES)]


def inputs(field: bytes, path: str) -> tuple[list[bytes], list[str] | str]:
    """(names, aspects) of inputs joined by NUL, an aspect after a TAB where it is not content."""
    if _TAB not in field:
        return names.split_names(field, path), names.CONTENT
    parts = [entry.partition(_TAB) for entry in field.split(b"\0")]
    if not all(part[0] for part in parts):
        raise ResourceInvalid.field(path, f"holds an empty name; {names.RESOURCE_RULE}")
    resources = names.split_names(b"\0".join(part[0] for part in parts), path)
    known: dict[bytes, str] = {}
    for index, (_, _, aspect) in enumerate(parts):
        if aspect not in known:
            known[aspect] = names.check_aspect(aspect.decode(errors="replace"), f"{path}[{index}]")
    return resources, [known[aspect] for _, _, aspect in parts]


def reported(request: work_pb2.ReportReadsRequest) -> tuple[list[bytes], Numbers, Numbers]:
    """(names, how often each was read, how many of these were fresh). Raises BatchInvalid, ResourceInvalid."""
    resources = names.split_names(request.names, "names")
    reads = counts(request.reads, "reads")
    fresh = counts(request.fresh, "fresh")
    if not len(resources) == len(reads) == len(fresh):
        raise BatchInvalid.field(
            "reads", f"names, reads and fresh differ in number: {len(resources)}, {len(reads)}, {len(fresh)}"
        )
    if (fresh > reads).any():
        raise BatchInvalid.field("fresh", "is above the number of reads")
    return resources, reads, fresh


def declared(message: propagation_pb2.PackedDeclarations, dependents: Numbers, path: str) -> Declared:
    """The sets of `dependents` (numbers; empty when they are still names) as packed. Raises BatchInvalid and kin."""
    resources, aspects = inputs(message.inputs, f"{path}.inputs")
    return Declared(
        dependents=dependents,
        counts=counts(message.counts, f"{path}.counts"),
        names=resources,
        aspects=aspects,
        index=counts(message.input_index, f"{path}.input_index"),
        path=path,
    )


def declared_sets(dependents: Numbers, sets: Sequence[Sequence[propagation_pb2.Dependency]], path: str) -> Declared:
    """Sets given as messages; the field of set i is `path` with [i] and the name of its repeated field."""
    places: dict[tuple[bytes, str], int] = {}
    index: list[int] = []
    sizes: list[int] = []
    for at, dependencies in enumerate(sets):
        mine = dict.fromkeys(_parts(dependencies, f"{path}[{at}].dependencies"))
        index += [places.setdefault(part, len(places)) for part in mine]
        sizes.append(len(mine))
    found = [aspect for _, aspect in places]
    return Declared(
        dependents=dependents,
        counts=np.array(sizes, np.uint32),
        names=[name for name, _ in places],
        aspects=names.CONTENT if found.count(names.CONTENT) == len(found) else found,
        index=np.array(index, np.uint32),
        path=path,
    )


def _parts(dependencies: Sequence[propagation_pb2.Dependency], path: str) -> list[tuple[bytes, str]]:
    """(name, aspect) of each."""
    texts = [dependency.resource for dependency in dependencies]
    aspects = [dependency.aspect for dependency in dependencies]
    if not any(aspects) and _are_plain(texts):
        return [(text.encode(), names.CONTENT) for text in texts]
    parts = zip(texts, aspects, strict=True)
    return [
        (
            names.check_resource(text, f"{path}[{inner}].resource"),
            names.check_aspect(aspect, f"{path}[{inner}].aspect"),
        )
        for inner, (text, aspect) in enumerate(parts)
    ]


def _are_plain(texts: Sequence[str]) -> bool:
    """Whether they are resources' names without doubt: nearly all are, and looked at together that takes no time."""
    joined = "".join(texts)
    sized = all(texts) and max(map(len, texts), default=0) <= names.MAX_RESOURCE_BYTES
    return sized and joined.isascii() and joined.isprintable()
