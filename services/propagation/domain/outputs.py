"""Outputs: as they changed, in the order of acceptance, and as the engine believes them to be, by number."""

from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from services.propagation.domain import listing
from services.propagation.domain.history import Logged
from services.propagation.domain.names import output_name
from services.propagation.domain.shard import Shard
from services.propagation.store.interface import Bytes16, Numbers
from services.propagation.store.numbers import to_numbers, to_set

PENDING, DEAD, RETRY_WAITS = 1, 2, 4
_MOST_RECORDS = 200
_WINDOW = 1 << 16
_MOST_WINDOWS = 64
"""Resource numbers looked at for one page: four million; a page may then be short and the next one goes on."""

_EVERY = 0xFFFF_FFFF
"""Above every resource number."""

Place = tuple[int, int]
"""(number of the completion, resource): all that was accepted up to and with it has been told."""


@dataclass(frozen=True, slots=True)
class OutputChange:
    """An output that changed by the completion accepted as `sequence`; `root` is the root it was rendered for, or 0."""

    sequence: int
    resource: int
    name: str
    hash: bytes
    version: bytes
    root: int
    time_ns: int


def changed_after(shard: Shard, place: Place, limit: int) -> tuple[list[OutputChange], Place, bool]:
    """Up to `limit` outputs that changed after `place`, in order; the place to go on from; whether that was all.

    An output that changed again since is left out: it comes with its newer change.
    """
    found: list[OutputChange] = []
    accepted, resource = place
    begun = shard.history.at(accepted) if resource < _EVERY else None
    if begun is not None:
        found += _of(shard, begun, resource + 1, limit)
        if len(found) == limit:
            return found, (accepted, found[-1].resource), False
    for looked_at, logged in enumerate(shard.history.after(accepted), start=1):
        left = limit - len(found)
        more = _of(shard, logged, 0, left)
        found += more
        if len(more) == left:
            return found, (logged.accepted, more[-1].resource), False
        accepted = logged.accepted
        if looked_at == _MOST_RECORDS:
            return found, all_of(accepted), False
    return found, all_of(accepted), True


def all_of(sequence: int) -> Place:
    """The place after everything accepted up to this number."""
    return sequence, _EVERY


def _of(shard: Shard, logged: Logged, first: int, limit: int) -> list[OutputChange]:
    if limit <= 0 or not logged.changed:
        return []
    found: list[OutputChange] = []
    at = logged.changed.rank(first - 1) if first else 0
    while at < len(logged.changed) and len(found) < limit:
        numbers = to_numbers(logged.changed[at : at + limit])
        at += len(numbers)
        newest = numbers[shard.store.output_changed_at(logged.view, numbers) == np.uint64(logged.accepted)]
        found += _events(shard, logged, newest[: limit - len(found)])
    return found


def _events(shard: Shard, logged: Logged, numbers: Numbers) -> list[OutputChange]:
    if not len(numbers):
        return []
    view = shard.views.name(logged.view)
    version = shard.sequence.version(logged.lease)
    names = shard.store.packed_names(np.ascontiguousarray(numbers)).decode().split("\0")
    hashes = shard.store.hashes(logged.view, numbers)
    told = to_set(numbers)
    roots = {resource: mark.root for mark in logged.marks for resource in mark.own & told}
    return [
        OutputChange(
            logged.accepted,
            number,
            output_name(view, name),
            hash_.tobytes(),
            version,
            roots.get(number, 0),
            logged.time_ns,
        )
        for number, name, hash_ in zip(numbers.tolist(), names, hashes, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class OutputPage:
    """Outputs in order of their numbers. `after` is the number to go on after, -1 at the end."""

    names: bytes
    hashes: bytes
    versions: bytes
    states: bytes
    after: int


def page(shard: Shard, view: int, after: int, size: int) -> OutputPage:
    """Up to `size` outputs of a view with numbers above `after`: all that it rendered, wants or gave up."""
    pending = BitMap()
    for root in shard.roots.values():
        for group in root.of_view(view):
            pending |= group.pending
    dead, retry = shard.holds.dead(view), shard.holds.waiting(view)
    found: list[Numbers] = []
    count, last = 0, after
    end = shard.store.resource_count
    for _ in range(_MOST_WINDOWS):
        window = np.arange(last + 1, min(last + 1 + _WINDOW, end), dtype=np.uint32)
        if not len(window) or count == size:
            break
        there = shard.store.rendered_at(view, window) > 0
        within = BitMap(range(int(window[0]), int(window[-1]) + 1))
        for members in (pending, dead):
            there[to_numbers(members & within) - window[0]] = True
        numbers = window[there][: size - count]
        found.append(numbers)
        count += len(numbers)
        last = int(numbers[-1]) if count == size else int(window[-1])
    numbers = np.concatenate(found) if found else np.empty(0, np.uint32)
    packed, fitting = listing.names(shard, numbers)
    if len(fitting) < len(numbers):
        numbers, last = fitting, int(fitting[-1])
    chosen = to_set(numbers)
    states = _states(numbers, pending & chosen, dead & chosen, retry & chosen)
    return OutputPage(
        packed,
        _bytes(shard.store.hashes(view, numbers)),
        versions(shard, shard.store.rendered_at(view, numbers)),
        states,
        -1 if last + 1 >= end else last,
    )


def pending_among(shard: Shard, view: int, numbers: np.ndarray) -> np.ndarray:
    """For each resource of a view whether some root waits for its render, or it is a dead letter."""
    asked = BitMap(numbers.tolist())
    waiting = asked & shard.holds.dead(view)
    for root in shard.index.of(view, asked):
        for group in root.of_view(view):
            waiting |= asked & group.pending
    return np.array([number in waiting for number in numbers.tolist()], bool)


def versions(shard: Shard, sequences: np.ndarray) -> bytes:
    """Rendered versions of lease sequences, 16 bytes each; zeros for what was never rendered."""
    known = {sequence: shard.sequence.version(sequence) for sequence in set(sequences.tolist()) if sequence}
    return b"".join(known.get(sequence, bytes(16)) for sequence in sequences.tolist())


def _states(numbers: Numbers, pending: BitMap, dead: BitMap, retry: BitMap) -> bytes:
    states = np.zeros(len(numbers), np.uint8)
    for members, bit in ((pending, PENDING), (dead, DEAD), (retry, RETRY_WAITS)):
        states[np.searchsorted(numbers, to_numbers(members))] |= bit
    return states.tobytes()


def _bytes(hashes: Bytes16) -> bytes:
    packed: bytes = np.ascontiguousarray(hashes).tobytes()
    return packed
