"""Ways through the dependency graph, from an item back to what it is made of: for explanations and cycles."""

from collections.abc import Iterator

import numpy as np

from services.propagation.domain.names import CONTENT, output_name, output_parts
from services.propagation.domain.shard import Shard

MOST_VISITED = 10_000
"""Items looked at by one question; beyond it the answer is the cautious one."""

Item = tuple[int, int]
"""(view, resource)"""


def resource_name(shard: Shard, resource: int) -> str:
    """The name of a resource number."""
    return shard.store.resource_names(np.array([resource], np.uint32))[0].decode()


def item_name(shard: Shard, item: Item) -> str:
    """The name of an item's output."""
    return output_name(shard.views.name(item[0]), resource_name(shard, item[1]))


def inputs_of(shard: Shard, item: Item) -> list[tuple[int, int, str]]:
    """(input, resource, aspect) of each dependency of an item, its own resource's inputs included."""
    view, resource = item
    store = shard.store
    _, inputs = store.dependencies(view, np.array([resource], np.uint32))
    parts = [(int(number), *part) for number, part in zip(inputs.tolist(), store.input_parts(inputs), strict=True)]
    known = {number for number, _, _ in parts}
    known_view = shard.views.by_number.get(view)
    if known_view is not None and known_view.covers(resource_name(shard, resource)):
        own = store.inputs_of_resource(resource)
        parts += [(number, resource, aspect) for number, aspect in own if number not in known]
    return parts


def output_item(shard: Shard, resource: int, aspect: str) -> Item | None:
    """The item whose output an input is, None for an input that no view makes."""
    if aspect != CONTENT:
        return None
    parts = output_parts(resource_name(shard, resource))
    if parts is None or parts[0] not in shard.store.views:
        return None
    source = int(shard.store.find_resources([parts[1].encode()])[0])
    return (shard.store.views[parts[0]], source) if source >= 0 else None


def made_of(shard: Shard, item: Item) -> Iterator[Item]:
    """The items whose outputs an item depends on."""
    for _, resource, aspect in inputs_of(shard, item):
        found = output_item(shard, resource, aspect)
        if found is not None:
            yield found


def cycle_through(shard: Shard, view: int, resource: int) -> str:
    """The shortest way from an item back to itself, as text; its name alone when none is found."""
    start = (view, resource)
    came_from: dict[Item, Item] = {}
    ring = [start]
    while ring and len(came_from) < MOST_VISITED:
        ahead: list[Item] = []
        for item in ring:
            for source in made_of(shard, item):
                if source == start:
                    way = [item]
                    while way[-1] != start:
                        way.append(came_from[way[-1]])
                    return " <- ".join(item_name(shard, step) for step in [*reversed(way), start])
                if source not in came_from:
                    came_from[source] = item
                    ahead.append(source)
        ring = ahead
    return item_name(shard, start)
