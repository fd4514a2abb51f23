"""What a change reaches through outputs, each item counted once, were no output to stay as it is.

It is followed a part at a time, from what was reached before: so shards that want each other's outputs can take turns.
"""

from collections.abc import Iterable

import numpy as np
from pyroaring import BitMap

from services.propagation.domain.names import CONTENT
from services.propagation.domain.shard import Shard
from services.propagation.store.numbers import to_numbers

Items = dict[int, BitMap]
"""By view, resource numbers."""


class Reach:
    """`reached` are all items, `ahead` those whose outputs are still to be followed, `fresh` how many came to those
    that it began with, `followed` the shard's own outputs whose dependents were looked up."""

    def __init__(self, reached: Items, ahead: Items) -> None:
        self.reached = reached
        self.ahead = ahead
        self.fresh = 0
        self.followed = 0

    @classmethod
    def begun(cls, found: Items) -> "Reach":
        """With the items that the change itself makes pending."""
        return cls({view: items.copy() for view, items in found.items()}, dict(found))

    def follow(self, shard: Shard, limit: int) -> Items:
        """Goes on from as many outputs of the shard, while there are some; answers those that other shards want."""
        wanted: Items = {}
        while self.ahead and self.followed < limit:
            view, items = self.ahead.popitem()
            here, elsewhere = items & shard.store.outputs_with_dependents(view), shard.interest.wanted(view, items)
            sources = here | elsewhere
            some = sources[: limit - self.followed]
            if len(some) < len(sources):
                self.ahead[view] = sources - some
            self.followed += len(some)
            if elsewhere.intersect(some):
                wanted[view] = wanted.get(view, BitMap()) | elsewhere & some
            if here.intersect(some):
                self._add(shard.store.dependents_of(shard.store.output_inputs(view, to_numbers(here & some))))
        return wanted

    def enter(self, shard: Shard, outputs: Iterable[str]) -> None:
        """Goes on from outputs of other shards."""
        names = [name.encode() for name in outputs]
        numbers = shard.store.find_resources(names).tolist() if names else []
        inputs = [shard.store.find_input(number, CONTENT) for number in numbers if number >= 0]
        known = np.array([one for one in inputs if one >= 0], np.uint32)
        if len(known):
            self._add(shard.store.dependents_of(known))

    def packed(self) -> list[tuple[int, bytes, bytes]]:
        """(view, reached, ahead) of each view: at most an eighth of a byte for each page of the shard, twice."""
        return [(view, _packed(items), _packed(self.ahead.get(view, BitMap()))) for view, items in self.reached.items()]

    @classmethod
    def unpacked(cls, pages: Iterable[tuple[int, bytes, bytes]]) -> "Reach":
        """Raises ValueError or IndexError for what is not packed so."""
        reach = cls({}, {})
        for view, reached, ahead in pages:
            reach.reached[view] = BitMap.deserialize(reached)
            if items := BitMap.deserialize(ahead):
                reach.ahead[view] = items
        return reach

    def _add(self, found: Items) -> None:
        for view, items in found.items():
            fresh = items - self.reached.get(view, BitMap())
            if fresh:
                self.reached[view] = self.reached.get(view, BitMap()) | fresh
                self.ahead[view] = self.ahead.get(view, BitMap()) | fresh
                self.fresh += len(fresh)


def _packed(items: BitMap) -> bytes:
    items.run_optimize()
    return bytes(items.serialize())
