"""Dead letters: asked for, replayed, given up by name."""

from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from pyroaring import BitMap

from services.propagation.domain import reopening
from services.propagation.domain.control import find_record
from services.propagation.domain.errors import ChangeNotFound
from services.propagation.domain.fanout import want
from services.propagation.domain.holds import key
from services.propagation.domain.records import TALLY, read_root, read_tally
from services.propagation.domain.roots import Root
from services.propagation.domain.sequence import encode
from services.propagation.domain.shard import Shard, Step
from services.propagation.store.interface import Held

_CHUNK = 2_000
"""Dead letters handled by one commit, so that the engine goes on meanwhile."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Empty fields match everything. `root` is a change id."""

    view: str = ""
    resource_prefix: str = ""
    root: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them, by name."""

    view: str
    resource: str
    root: str
    held: Held


def query(shard: Shard, wanted: Filter, limit: int, after: bytes = b"") -> tuple[list[DeadLetter], bytes]:
    """Up to `limit` of those that match, after the key `after`; and the key to go on after, empty at the end."""
    found: list[DeadLetter] = []
    for letter in _matching(shard, wanted, after):
        if len(found) == limit:
            last = found[-1].held
            return found, key(last.view, last.resource)
        found.append(letter)
    return found, b""


def count(shard: Shard, wanted: Filter) -> int:
    """How many match."""
    if wanted == Filter():
        return shard.holds.dead_count
    return sum(1 for _ in _matching(shard, wanted, b""))


def replay(shard: Shard, wanted: Filter) -> tuple[int, Awaitable[None] | None]:
    """Makes up to a commit's worth of those that match pending again; 0 when none is left to replay.

    Those of a view that was left out stay: nothing would render them.
    """
    live = (letter for letter in _matching(shard, wanted, b"") if letter.held.view in shard.views.by_number)
    chosen = list(islice(live, _CHUNK))
    if not chosen:
        return 0, None
    step = shard.step()
    by_root: dict[tuple[int, int], BitMap] = {}
    for letter in chosen:
        by_root.setdefault((letter.held.root, letter.held.view), BitMap()).add(letter.held.resource)
    for (root_sequence, view), items in by_root.items():
        _replay(step, root_sequence, view, items)
    return len(chosen), step.write()


def _replay(step: Step, root_sequence: int, view: int, items: BitMap) -> None:
    shard = step.shard
    root = reopening.reopened(step, root_sequence) if root_sequence else None
    if root is None:
        root = reopening.made_alone(step)
    root.flips.pop(view, None)
    _unbury(root, view, items)
    want(step, root, 1, step.next_sequence(), view, items)
    step.touch(root)
    shard.signals.work.fire()


def _unbury(root: Root, view: int, items: BitMap) -> None:
    """Uncounts those that were dead letters before the root was opened again."""
    in_groups = BitMap()
    for group in root.of_view(view):
        in_groups |= group.failed
    buried = min(root.buried, len(items - in_groups))
    root.buried -= buried
    root.total -= buried


def discard(shard: Shard, wanted: Filter) -> tuple[int, Awaitable[None] | None]:
    """Gives up to a commit's worth of those that match up for good; 0 when none is left."""
    chosen, _ = query(shard, wanted, _CHUNK)
    if not chosen:
        return 0, None
    step = shard.step()
    by_view: dict[int, BitMap] = {}
    by_root: dict[tuple[int, int], BitMap] = {}
    finished: dict[int, int] = {}
    for letter in chosen:
        held = letter.held
        by_view.setdefault(held.view, BitMap()).add(held.resource)
        if held.root in shard.roots:
            by_root.setdefault((held.root, held.view), BitMap()).add(held.resource)
        else:
            finished[held.root] = finished.get(held.root, 0) + 1
    for (sequence, view), items in by_root.items():
        _unbury(shard.roots[sequence], view, items)
        step.touch(shard.roots[sequence])
    for view, items in by_view.items():
        shard.holds.discard(step.commit, step.next_sequence(), view, items)
        for root in shard.roots.values():
            for group in root.of_view(view):
                gone = group.failed & items
                if gone:
                    group.failed -= gone
                    root.total -= len(gone)
                    step.touch(root)
    for sequence, gone_count in finished.items():
        tally = read_tally(shard.store, sequence)
        gone_count = min(gone_count, tally.failed)
        given_up = replace(tally, failed=tally.failed - gone_count, total=tally.total - gone_count)
        step.commit.put_record(TALLY, encode(sequence), given_up.pack())
    return len(chosen), step.write()


def _matching(shard: Shard, wanted: Filter, after: bytes) -> Iterator[DeadLetter]:
    view = shard.views.number(wanted.view) if wanted.view else None
    root: int | None = None
    if wanted.root:
        try:
            root = find_record(shard, wanted.root).sequence
        except ChangeNotFound:
            return
    ids: dict[int, str] = {}
    for held in shard.holds.dead_letters(view, after):
        if (root is not None and held.root != root) or (wanted.reason and held.reason != wanted.reason):
            continue
        name = shard.store.resource_names(np.array([held.resource], np.uint32))[0].decode()
        if not name.startswith(wanted.resource_prefix):
            continue
        if held.root not in ids:
            record = read_root(shard.store, held.root)
            ids[held.root] = record.change.id if record is not None else ""
        yield DeadLetter(shard.views.name(held.view), name, ids[held.root], held)
