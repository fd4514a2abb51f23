"""What a copy had with other shards, by their new numbers: who wants which outputs, what is untold, what was heard.

Numbers of what is told go on rising in each part from where the shard was: so a part has heard from each part of
another shard what it had heard from that one.
"""

import numpy as np
from pyroaring import BitMap

from services.propagation.domain.copies import Copy, names_of
from services.propagation.domain.hearing import HEARD
from services.propagation.domain.interest import INTEREST, UNTOLD, Interest
from services.propagation.domain.names import CONTENT, OUTPUT_PREFIX, output_parts
from services.propagation.domain.sequence import SequenceClock
from services.propagation.store.interface import Commit, InputChange

_WINDOW = 1 << 13
_PREFIX = OUTPUT_PREFIX.encode()


def renumber(copy: Copy, commit: Commit, at: bytes) -> None:
    """Interests, what is untold, and how far was heard."""
    _interests(copy, commit)
    _untold(copy, commit)
    store = copy.store
    heard = {key[0]: value for key, value in store.records(HEARD)}
    commit.delete_records(HEARD, b"")
    for source, value in heard.items():
        for child in copy.children_of(source):
            commit.put_record(HEARD, bytes([child]), value)


def _interests(copy: Copy, commit: Commit) -> None:
    """A shard's interest is that of all its parts: which of them it was is not known here."""
    before = Interest(copy.store)
    commit.delete_records(INTEREST, b"")
    after = before.empty()
    for view, shard, items in before.every_interest():
        if mine := items & copy.mine:
            for child in copy.children_of(shard):
                after.register(commit, view, child, mine)


def _untold(copy: Copy, commit: Commit) -> None:
    kept = list(Interest(copy.store).every())
    commit.delete_records(UNTOLD, b"")
    for shard, untold in kept:
        if mine := untold.within(copy.mine):
            for child in copy.children_of(shard):
                mine.put(commit, child)


def sources(copy: Copy, commit: Commit, at: bytes) -> bytes | None:
    """Outputs that were the shard's own: of those that are still, the other parts are told; of theirs, the newest
    change is kept as that of an input, as what they will tell."""
    store, first = copy.store, int.from_bytes(at, "big") if at else 0
    numbers = np.arange(first, min(first + _WINDOW, len(copy.parts)), dtype=np.uint32)
    interest = copy.interest
    clock = SequenceClock(store)
    found: dict[int, BitMap] = {}
    changes: dict[int, InputChange] = {}
    for number, name in zip(numbers.tolist(), names_of(store, numbers), strict=True):
        output = output_parts(name.decode()) if name.startswith(_PREFIX) else None
        shard = int(copy.parts[number])
        if output is None or output[0] not in store.views or shard not in copy.children:
            continue
        read = store.find_input(number, CONTENT)
        item = int(store.find_resources([output[1].encode()])[0])
        if read < 0 or item < 0:
            continue
        view = store.views[output[0]]
        if shard == copy.part.number:
            found.setdefault(view, BitMap()).add(item)
        elif (change := _newest(copy, clock, view, item, read)) is not None:
            changes[read] = change
    for view, items in found.items():
        for child in copy.children:
            if child != copy.part.number:
                interest.register(commit, view, child, items)
    if changes:
        commit.change_each(np.array(list(changes), np.uint32), list(changes.values()))
    following = first + _WINDOW
    return following.to_bytes(8, "big") if following < len(copy.parts) else None


def _newest(copy: Copy, clock: SequenceClock, view: int, item: int, read: int) -> InputChange | None:
    """When an output changed is in its column; what is known of the input may be older. None where it is not."""
    at = np.array([item], np.uint32)
    changed_at = int(copy.store.output_changed_at(view, at)[0])
    known = copy.store.input_changes([read]).get(read)
    if not changed_at or known is not None and known.changed_at >= changed_at:
        return None
    return InputChange(changed_at, clock.version(int(copy.store.rendered_at(view, at)[0])), 0)
