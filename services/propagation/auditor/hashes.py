"""The hashes that a stored page may have had as a render: from its bytes, media type and tags.

An executor hashes the renderer's own tags, and stores them together with the view's, each tag once. The store does not
tell which of the view's tags were the renderer's too; so there is a hash for each way, and few of them.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from services.propagation.executor import hashing

MOST_TOLD_APART = 4
"""Of a view's tags: with more of them, that all or none are the renderer's too."""


def possible_hashes(
    body: bytes, content_type: str, stored_tags: Sequence[str], view_tags: Sequence[str]
) -> tuple[bytes, ...]:
    """16 bytes each; the most likely first."""
    ours = sorted(set(view_tags) & set(stored_tags))
    own = set(stored_tags) - set(ours)
    return tuple(hashing.possible_hashes(body, content_type, (own.union(more) for more in _subsets(ours))))


def _subsets(tags: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for size in range(len(tags) + 1) if len(tags) <= MOST_TOLD_APART else (0, len(tags)):
        yield from combinations(tags, size)
