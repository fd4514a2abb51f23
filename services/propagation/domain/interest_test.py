"""Who wants which outputs, and what is untold: kept by the store, and counted by root."""

import asyncio
from itertools import count

import numpy as np
from pyroaring import BitMap

from services.propagation.domain.change import Change
from services.propagation.domain.interest import Interest
from services.propagation.domain.records import RootRecord, State, Tally
from services.propagation.domain.roots import Root
from services.propagation.store.memory import MemoryStore

VIEW, LEASE = 3, 40


def root(sequence):
    change = Change(f"edit{sequence}", "t", ("content",), bytes(16))
    return Root(RootRecord(sequence, change, (), State.ACTIVE, "default", 1, 1, 0), Tally(), 0.0)


def noted(store, interest, changed, wanting, numbers):
    commit = store.begin()
    interest.note(commit, VIEW, LEASE, changed, wanting, lambda: next(numbers))
    store.write(commit)


def test_what_is_wanted_and_untold_outlives_the_engine_and_goes_over_to_heirs():
    async def main():
        store, numbers = MemoryStore(), count(50)
        interest = Interest(store)
        commit = store.begin()
        interest.register(commit, VIEW, 1, BitMap([5, 6, 70_000]))
        interest.register(commit, VIEW, 2, BitMap([6]))
        interest.register(commit, VIEW + 1, 2, BitMap([9]))
        store.write(commit)
        commit = store.begin()
        interest.register(commit, VIEW, 1, BitMap([7]))
        store.write(commit)
        one, other = root(1), root(2)
        group = one.group(2, VIEW)
        wanting = [(one, group, BitMap([5, 6])), (other, other.group(1, VIEW), BitMap([6]))]
        for found in (interest, Interest(store)):
            assert found.wanted(VIEW, BitMap([4, 5, 7, 70_000])) == BitMap([5, 7, 70_000])
            assert found.wanted(VIEW + 1, BitMap([5])) == BitMap()
        noted(store, interest, BitMap([4, 5, 6]), wanting, numbers)
        noted(store, interest, BitMap([70_000]), [], numbers)
        assert (one.untold, other.untold) == (2, 2) and not one.finished
        again = Interest(store)
        assert again.waiting == {1: 2, 2: 1}
        first, second = again.untold(1)
        assert (first.view, first.lease, first.items) == (VIEW, LEASE, BitMap([5, 6]))
        assert [(part.root, part.level, part.items) for part in first.parts] == [
            (1, 3, BitMap([5, 6])),
            (2, 2, BitMap([6])),
        ]
        assert (second.items, second.parts) == (BitMap([70_000]), ())
        here = {1: root(1), 2: root(2)}
        again.count(here)
        assert (here[1].untold, here[2].untold) == (2, 2)
        # The first one is folded into the second: what was to be told under both is told under that one, once each.
        commit = store.begin()
        again.hand_over(commit, here[1], here[2])
        store.write(commit)
        assert (here.pop(1).untold, here[2].untold) == (0, 2)
        assert {part.root for _, untold in again.every() for part in untold.parts} == {2}
        commit = store.begin()
        assert again.told(commit, 1, first.number, here) == [here[2]]
        store.write(commit)
        assert here[2].untold == 1 and again.waiting == {1: 1, 2: 1}
        assert [untold.number for untold in again.untold(1)] == [second.number]

    asyncio.run(main())


def test_much_that_changes_together_is_told_in_pieces():
    async def main():
        store, numbers = MemoryStore(), count(1)
        interest = Interest(store)
        every = BitMap(range(0, 9_000, 2))
        commit = store.begin()
        interest.register(commit, VIEW, 1, every)
        store.write(commit)
        one = root(1)
        noted(store, interest, BitMap(range(9_000)), [(one, one.group(1, VIEW), BitMap(range(4_100)))], numbers)
        pieces = list(interest.untold(1))
        assert [len(piece.items) for piece in pieces] == [2_000, 2_000, 500]
        assert BitMap.union(*(piece.items for piece in pieces)) == every
        assert [sum(len(part.items) for part in piece.parts) for piece in pieces] == [2_000, 50, 0]
        assert one.untold == 2
        assert np.all(np.diff([piece.number for piece in pieces]) > 0)

    asyncio.run(main())
