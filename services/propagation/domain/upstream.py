"""What items are made of, as far as this shard knows: whether it shows a change, and which outputs of other shards it
reads.

Whoever asks goes on with these outputs in their shards. Shards answer one after the other, and what one of them shows
may be pending again when the next one answers. So all are asked twice: where no answer differs, `state` was empty in
all of them at once between the two.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from services.propagation.domain import visibility
from services.propagation.domain.names import CONTENT, output_parts
from services.propagation.domain.paths import MOST_VISITED, Item, inputs_of, resource_name
from services.propagation.domain.shard import Shard

_PENDING = "pending"
_MOST_UNTOLD = 1_000


@dataclass(frozen=True, slots=True)
class Upstream:
    """`state` says why the change is not shown, as `Visibility` does; `sources` are names of other shards' outputs, in
    order. `renders` are 16 bytes that differ when one of the items was rendered anew."""

    state: str
    sources: tuple[str, ...]
    renders: bytes


def look(shard: Shard, visibility_token: str, outputs: Sequence[str], readers: Collection[int]) -> Upstream:
    """Of outputs of this shard, by their names, that are read in the shards `readers`. Raises ChangeIdInvalid."""
    sequence = visibility.sequence_of(shard, visibility_token)
    items = [item for item in (_item(shard, output) for output in outputs) if item is not None]
    seen, sources = _walked(shard, items)
    state = _PENDING if sequence is None or len(seen) > MOST_VISITED else ""
    for item in items:
        state = state or visibility.check(shard, sequence or 0, *item).state
    if not state and any(_untold(shard, reader, set(items)) for reader in readers):
        state = _PENDING
    return Upstream(state, tuple(sorted(sources)), _renders(shard, seen))


def _item(shard: Shard, output: str) -> Item | None:
    parts = output_parts(output)
    view = shard.store.views.get(parts[0]) if parts is not None else None
    if parts is None or view is None:
        return None
    number = int(shard.store.find_resources([parts[1].encode()])[0])
    return (view, number) if number >= 0 else None


def _walked(shard: Shard, items: Sequence[Item]) -> tuple[set[Item], set[str]]:
    """The items and all of this shard that they are made of; the outputs of others that these read."""
    seen, sources = set(items), set[str]()
    ring = list(items)
    while ring and len(seen) <= MOST_VISITED:
        ahead: dict[Item, None] = {}
        for item in ring:
            for _, resource, aspect in inputs_of(shard, item):
                name = resource_name(shard, resource)
                if aspect != CONTENT or output_parts(name) is None:
                    continue
                if not shard.settings.part.has(name):
                    sources.add(name)
                elif (made := _item(shard, name)) is not None and made not in seen:
                    ahead[made] = None
        seen.update(ahead)
        ring = list(ahead)
    return seen, sources


def _untold(shard: Shard, reader: int, items: set[Item]) -> bool:
    """Whether a shard is still to be told of one of them; where very much waits, nobody looks."""
    if shard.interest.waiting.get(reader, 0) > _MOST_UNTOLD:
        return True
    untold = shard.interest.untold(reader) if 0 <= reader < shard.settings.part.shards else ()
    return any((told.view, resource) in items for told in untold for resource in told.items)


def _renders(shard: Shard, items: set[Item]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for view, resource in sorted(items):
        rendered_at = int(shard.store.rendered_at(view, np.array([resource], np.uint32))[0])
        digest.update(b"%d %d %d\n" % (view, resource, rendered_at))
    return digest.digest()
