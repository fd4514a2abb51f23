"""A commit as bytes: what it numbers and then the calls that gathered it, in their order.

One byte of the format's version, then sections: an operation (one byte), how many blocks it has (two), and each block
with its length (four) before it. Numbers are little-endian; arrays are blocks of them, one behind the other, so that a
commit of thousands of pages is packed and unpacked a few arrays at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from struct import Struct, error
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from libs.errors.errors import DataLoss
from services.propagation.store.interface import Bytes16, InputChange, Numbers
from services.propagation.store.numbered import InputNumbers, Numbered, NumberedCommit, no_inputs

VERSION = 1

_SECTION = Struct("<BH")
_LENGTH = Struct("<I")
_NEXT = Struct("<QQ")
_VIEW = Struct("<H")
_COMPLETE = Struct("<HQQ")
_CHANGE = Struct("<QQ16s")

_NEXT_NUMBERS, _VIEWS, _NAMES, _INPUTS, _REPLACE, _ADD, _REMOVE, _COMPLETED, _CHANGED, _CHANGED_EACH = range(1, 11)
_PUT, _DELETE, _DELETE_PREFIX = range(11, 14)

MOST_ASPECTS = 60_000
"""Of one commit: a section has fewer than 2**16 blocks."""


class CommitDamaged(DataLoss):
    """Bytes that are no commit of this release."""

    default_reason = "LOG_DAMAGED"


# -- packing ----------------------------------------------------------------------------------------------------------


def pack(numbered: Numbered, calls: Sequence[bytes]) -> bytes:
    """The whole commit: what it numbers, and its calls as the functions below pack them."""
    head = [bytes([VERSION]), _section(_NEXT_NUMBERS, _NEXT.pack(numbered.next_resource, numbered.next_input))]
    if numbered.views:
        given = np.array(list(numbered.views.values()), "<u2")
        head.append(_section(_VIEWS, given.tobytes(), "/".join(numbered.views).encode()))
    if numbered.names:
        numbers = np.fromiter(numbered.names.values(), "<u4", len(numbered.names))
        head.append(_section(_NAMES, numbers.tobytes(), b"\0".join(numbered.names)))
    inputs = numbered.inputs
    if len(inputs.numbers):
        if len(inputs.aspects) > MOST_ASPECTS:
            raise ValueError(f"a commit names {len(inputs.aspects)} aspects; {MOST_ASPECTS} are the most")
        arrays = (_u32(inputs.numbers), _u32(inputs.resources), _u32(inputs.which))
        head.append(_section(_INPUTS, *arrays, *(aspect.encode() for aspect in inputs.aspects)))
    return b"".join([*head, *calls])


def pack_dependencies(
    view: int, dependents: Numbers, counts: Numbers, inputs: Numbers, *, remove: bool | None
) -> bytes:
    """`Commit.replace_dependencies` where `remove` is None, else `Commit.change_dependencies`."""
    operation = _REPLACE if remove is None else _REMOVE if remove else _ADD
    return _section(operation, _VIEW.pack(view), _u32(dependents), _u32(counts), _u32(inputs))


def pack_complete(
    view: int, resources: Numbers, sequence: int, hashes: Bytes16, changed: npt.NDArray[np.bool_], changed_at: int
) -> bytes:
    """`Commit.complete`."""
    head = _COMPLETE.pack(view, sequence, changed_at)
    return _section(_COMPLETED, head, _u32(resources), hashes.tobytes(), changed.astype(np.uint8).tobytes())


def pack_change(inputs: Numbers, change: InputChange) -> bytes:
    """`Commit.change_inputs`."""
    return _section(_CHANGED, _CHANGE.pack(change.changed_at, change.root, change.version), _u32(inputs))


def pack_changes(inputs: Numbers, changes: Sequence[InputChange]) -> bytes:
    """`Commit.change_each`."""
    changed_at = np.array([change.changed_at for change in changes], "<u8")
    roots = np.array([change.root for change in changes], "<u8")
    versions = b"".join([change.version for change in changes])
    return _section(_CHANGED_EACH, _u32(inputs), changed_at.tobytes(), roots.tobytes(), versions)


def pack_put(kind: str, key: bytes, value: bytes) -> bytes:
    """`Commit.put_record`."""
    return _section(_PUT, kind.encode(), key, value)


def pack_delete(kind: str, key: bytes) -> bytes:
    """`Commit.delete_record`."""
    return _section(_DELETE, kind.encode(), key)


def pack_delete_prefix(kind: str, prefix: bytes) -> bytes:
    """`Commit.delete_records`."""
    return _section(_DELETE_PREFIX, kind.encode(), prefix)


def _section(operation: int, *blocks: bytes) -> bytes:
    parts = [_SECTION.pack(operation, len(blocks))]
    for block in blocks:
        parts += (_LENGTH.pack(len(block)), block)
    return b"".join(parts)


def _u32(numbers: Numbers) -> bytes:
    return numbers.astype("<u4", copy=False).tobytes()


# -- unpacking --------------------------------------------------------------------------------------------------------


class _Section(NamedTuple):
    operation: int
    blocks: list[bytes]


def replay(packed: bytes, commit: NumberedCommit) -> None:
    """Gathers the packed commit again, into an empty one. Raises CommitDamaged, having written nothing."""
    try:
        sections = list(_sections(packed))
        commit.renumber(_numbered(sections))
        for section in sections:
            if section.operation > _INPUTS:
                _CALLS[section.operation](commit, section.blocks)
    except (KeyError, IndexError, ValueError, LookupError, error) as problem:
        raise CommitDamaged(
            f"a record of the log is no commit of this release (format {VERSION}): it is damaged, or of a later release"
        ) from problem


def _sections(packed: bytes) -> Iterator[_Section]:
    if not packed or packed[0] != VERSION:
        raise ValueError("the format's version is another one")
    at = 1
    while at < len(packed):
        operation, count = _SECTION.unpack_from(packed, at)
        at += _SECTION.size
        blocks = []
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(packed, at)
            at += _LENGTH.size
            if at + length > len(packed):
                raise ValueError("a block ends behind the commit")
            blocks.append(packed[at : at + length])
            at += length
        yield _Section(operation, blocks)


def _numbered(sections: Sequence[_Section]) -> Numbered:
    views: dict[str, int] = {}
    names: dict[bytes, int] = {}
    inputs = no_inputs()
    following = (0, 0)
    for operation, blocks in sections:
        if operation == _NEXT_NUMBERS:
            following = _NEXT.unpack(blocks[0])
        elif operation == _VIEWS:
            given = np.frombuffer(blocks[0], "<u2").tolist()
            views = dict(zip(blocks[1].decode().split("/"), given, strict=True))
        elif operation == _NAMES:
            names = dict(zip(blocks[1].split(b"\0"), _array(blocks[0]).tolist(), strict=True))
        elif operation == _INPUTS:
            aspects = tuple(block.decode() for block in blocks[3:])
            inputs = InputNumbers(_array(blocks[0]), _array(blocks[1]), _array(blocks[2]), aspects)
    return Numbered(views, names, inputs, *following)


def _array(block: bytes) -> Numbers:
    return np.frombuffer(block, "<u4").astype(np.uint32, copy=False)


def _call_replace(commit: NumberedCommit, blocks: list[bytes]) -> None:
    (view,) = _VIEW.unpack(blocks[0])
    commit.replace_dependencies(view, _array(blocks[1]), _array(blocks[2]), _array(blocks[3]))


def _call_change(commit: NumberedCommit, blocks: list[bytes], *, remove: bool) -> None:
    (view,) = _VIEW.unpack(blocks[0])
    commit.change_dependencies(view, _array(blocks[1]), _array(blocks[2]), _array(blocks[3]), remove=remove)


def _call_complete(commit: NumberedCommit, blocks: list[bytes]) -> None:
    view, sequence, changed_at = _COMPLETE.unpack(blocks[0])
    hashes, changed = np.frombuffer(blocks[2], "V16"), np.frombuffer(blocks[3], np.uint8).astype(np.bool_)
    commit.complete(view, _array(blocks[1]), sequence, hashes, changed, changed_at)


def _call_changed(commit: NumberedCommit, blocks: list[bytes]) -> None:
    changed_at, root, version = _CHANGE.unpack(blocks[0])
    commit.change_inputs(_array(blocks[1]), InputChange(changed_at, version, root))


def _call_changed_each(commit: NumberedCommit, blocks: list[bytes]) -> None:
    times, roots = np.frombuffer(blocks[1], "<u8").tolist(), np.frombuffer(blocks[2], "<u8").tolist()
    versions = [blocks[3][at : at + 16] for at in range(0, len(blocks[3]), 16)]
    changes = [InputChange(at, version, root) for at, version, root in zip(times, versions, roots, strict=True)]
    commit.change_each(_array(blocks[0]), changes)


_CALLS: dict[int, Callable[[NumberedCommit, list[bytes]], None]] = {
    _REPLACE: _call_replace,
    _ADD: lambda commit, blocks: _call_change(commit, blocks, remove=False),
    _REMOVE: lambda commit, blocks: _call_change(commit, blocks, remove=True),
    _COMPLETED: _call_complete,
    _CHANGED: _call_changed,
    _CHANGED_EACH: _call_changed_each,
    _PUT: lambda commit, blocks: commit.put_record(blocks[0].decode(), blocks[1], blocks[2]),
    _DELETE: lambda commit, blocks: commit.delete_record(blocks[0].decode(), blocks[1]),
    _DELETE_PREFIX: lambda commit, blocks: commit.delete_records(blocks[0].decode(), blocks[1]),
}
