"""A copy of a shard becomes a part of it: what belongs to the other parts goes, and what it had with other shards is
kept by their new numbers.

It is done by whoever leads the part, in commits of its log, before the engine works on it; each has the place to go on
from. So engines that follow the log need no logic, and one that is killed at it is followed by another that goes on.

Names and inputs stay, whoever's they are. Of outputs that were of the same shard before, each part has the others told
whatever they may depend on: all that had a number as an input (hearing.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np

from services.propagation.domain import causers, dividing_links, dividing_roots
from services.propagation.domain.copies import Copy, copy_of
from services.propagation.domain.generation import Generation, dividing, end_dividing
from services.propagation.domain.holds import DEAD, HELD, key, unpack
from services.propagation.domain.partition import Part
from services.propagation.domain.sequence import raise_clock
from services.propagation.store.interface import Commit, Numbers, Store

_WINDOW = 1 << 13
"""Resources looked at for one commit, and records."""
_COMPACT_ITEMS = 20_000

_Step = Callable[[Copy, Commit, bytes], bytes | None]
"""One commit of a step, from a place on; the place to go on from, None when the step is done."""


async def divide(store: Store, part: Part, generation: Generation, only_first: Sequence[str] = ()) -> None:
    """Ends when the store is no copy any more, durably; at once for one that is none.

    `only_first` are kinds of records that the first shard alone has. Raises what the store raises.
    """
    place = dividing(store)
    if place is None:
        return
    copy = await copy_of(store, part, place.shards)
    steps: tuple[_Step, ...] = (
        dividing_links.renumber,
        dividing_links.sources,
        dividing_roots.roots,
        dividing_roots.fanouts,
        _retries,
        _dead_letters,
        _pages,
    )
    durable: Awaitable[None] | None = None
    while place.step < len(steps):
        commit = store.begin()
        following = steps[place.step](copy, commit, place.at)
        place = replace(place, step=place.step + (following is None), at=following or b"")
        place.put(commit)
        written = store.write(commit)
        if durable is not None:
            await durable
        durable = written
        if store.needs_compaction:
            store.compact(_COMPACT_ITEMS)
        await asyncio.sleep(0)  # others have their turns
    commit = store.begin()
    if part.number:
        for kind in only_first:
            commit.delete_records(kind, b"")
    if not copy.is_first:
        commit.delete_records(causers.KIND, b"")
    raise_clock(store, commit, generation.first_sequence)
    end_dividing(commit)
    await store.write(commit)


def _retries(copy: Copy, commit: Commit, at: bytes) -> bytes | None:
    return _drop_held(HELD, copy, commit, at)


def _dead_letters(copy: Copy, commit: Commit, at: bytes) -> bytes | None:
    return _drop_held(DEAD, copy, commit, at)


def _drop_held(kind: str, copy: Copy, commit: Commit, at: bytes) -> bytes | None:
    """Those of others' pages."""
    last = None
    for record_key, value in copy.store.records(kind, start=at, limit=_WINDOW):
        held = unpack(record_key, value)
        if copy.parts[held.resource] != copy.part.number:
            commit.delete_record(kind, key(held.view, held.resource))
        last = record_key
    return None if last is None else last + b"\0"


def _pages(copy: Copy, commit: Commit, at: bytes) -> bytes | None:
    """Dependencies of others' pages, and what is known of their renders."""
    first = int.from_bytes(at, "big") if at else 0
    numbers = copy.foreign(np.arange(first, min(first + _WINDOW, len(copy.parts)), dtype=np.uint32))
    for view in copy.store.views.values() if len(numbers) else ():
        counts, _ = copy.store.dependencies(view, numbers)
        if len(those := numbers[counts > 0]):
            commit.replace_dependencies(view, those, np.zeros(len(those), np.uint32), np.empty(0, np.uint32))
        if len(those := numbers[_known(copy.store, view, numbers)]):
            marks = np.ones(len(those), np.bool_)
            commit.complete(view, those, 0, np.zeros(len(those), "V16"), marks, 0)
    following = first + _WINDOW
    return following.to_bytes(8, "big") if following < len(copy.parts) else None


def _known(store: Store, view: int, numbers: Numbers) -> np.ndarray:
    """Which were ever rendered."""
    rendered: np.ndarray = store.rendered_at(view, numbers) > 0
    return rendered | (store.output_changed_at(view, numbers) > 0)
