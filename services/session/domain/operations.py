"""Changes of a session's data, key by key: what they make of the values that are there. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from libs.errors.errors import InvalidArgument
from services.session.domain.errors import DataTooLarge, VersionMismatch

MAX_OPERATIONS: Final = 64
MAX_KEY_BYTES: Final = 128
_INT64: Final = 1 << 63
_DECIMAL: Final = re.compile(rb"-?(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True, repr=False)
class Operation:
    """One of: `set` (with `once`: only when the key is absent), `add`, or removal when both are None.

    `if_version`: the key's version must be this, 0 for absent; None for any.
    """

    key: str
    set: bytes | None = None
    add: int | None = None
    once: bool = False
    if_version: int | None = None


class Value(NamedTuple):
    """A value that is there."""

    value: bytes
    version: int


class Totals(NamedTuple):
    """What a session holds: keys, their bytes (names and values), and the highest version of any key removed."""

    keys: int
    size_bytes: int
    floor: int


class Limits(NamedTuple):
    """What it may hold."""

    keys: int
    size_bytes: int


@dataclass(slots=True)
class Changes:
    """What to write: values by key, keys to remove; what to answer; what the session then holds."""

    totals: Totals
    put: dict[str, Value] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)


def apply(operations: Sequence[Operation], values: Mapping[str, Value], totals: Totals, limits: Limits) -> Changes:
    """All or nothing: what the operations (each key once) make of the values of their keys.

    A key's version rises by one with each change, and goes on where it was when a removed key comes back, so that a
    version never means two values. Raises VersionMismatch, DataTooLarge, InvalidArgument.
    """
    changes = Changes(totals)
    keys, size, floor = totals
    for at, operation in enumerate(operations):
        key, had = operation.key, values.get(operation.key)
        version = had.version if had is not None else 0
        wrong = operation.if_version is not None and operation.if_version != version
        if wrong or (operation.once and had is not None):
            raise VersionMismatch(key, version)
        if had is not None:
            keys, size = keys - 1, size - len(key.encode()) - len(had.value)
        new = operation.set
        if operation.add is not None:
            number = _sum(had, operation.add, at)
            new, changes.counters[key] = b"%d" % number, number
        if new is not None:
            value = Value(new, max(version, floor if had is None else 0) + 1)
            keys, size = keys + 1, size + len(key.encode()) + len(new)
            changes.put[key], changes.versions[key] = value, value.version
        else:
            floor = max(floor, version)
            changes.versions[key] = 0
            if had is not None:
                changes.remove.append(key)
    grows = keys > totals.keys or size > totals.size_bytes
    if grows and keys > limits.keys:
        raise DataTooLarge(f"the session would hold {keys} data keys", metadata={"limit_keys": str(limits.keys)})
    if grows and size > limits.size_bytes:
        limit = {"limit_bytes": str(limits.size_bytes)}
        raise DataTooLarge(f"the session would hold {size} bytes of data", metadata=limit)
    changes.totals = Totals(keys, size, floor)
    return changes


def check_key(key: str, path: str) -> None:
    """Raises InvalidArgument for what cannot be a data key."""
    if not 1 <= len(key.encode()) <= MAX_KEY_BYTES or not key.isprintable() or key == "*":
        what = f"1 to {MAX_KEY_BYTES} bytes of printable characters are allowed, and not * alone"
        raise InvalidArgument.field(path, what)


def check(operations: Sequence[Operation]) -> None:
    """Raises InvalidArgument for operations that no state could make right."""
    if not 1 <= len(operations) <= MAX_OPERATIONS:
        what = f"has {len(operations)} entries; 1 to {MAX_OPERATIONS} are allowed"
        raise InvalidArgument.field("operations", what)
    seen: set[str] = set()
    for at, operation in enumerate(operations):
        path = f"operations[{at}]"
        check_key(operation.key, f"{path}.key")
        if operation.key in seen:
            raise InvalidArgument.field(f"{path}.key", "is there twice; one operation for each key is allowed")
        seen.add(operation.key)
        if operation.if_version is not None and operation.if_version < 0:
            raise InvalidArgument.field(f"{path}.if_version", "a version is 0 or more")


def _sum(had: Value | None, add: int, at: int) -> int:
    if had is None:
        number = add
    elif _DECIMAL.fullmatch(had.value) is None:
        raise InvalidArgument.field(f"operations[{at}].add", "the key's value is not a decimal number")
    else:
        number = int(had.value) + add
    if not -_INT64 <= number < _INT64:
        raise InvalidArgument.field(f"operations[{at}].add", "the sum leaves the range of 64 bits")
    return number
