"""Takes the pages that another data centre rendered, as the store has them by now.

The engine lends a page once the store here has it, so that nothing older is taken; the page is known by the version
that it was rendered and stored with, and is purged with that.
"""

import time
from collections.abc import Sequence

from services.propagation.executor.pages import Item, Outcome, Page, RenderFailed
from services.propagation.executor.ports import Stored
from services.propagation.executor.renderers import Slice
from services.propagation.executor.templates import EffectTemplates
from services.propagation.targets.target import Target
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import WellspringError


class TakeRenderer:
    """Of one view."""

    def __init__(self, view: work_pb2.View) -> None:
        self._store = view.store
        self._effects = EffectTemplates(view)

    @property
    def target(self) -> Target | None:
        """None: the store is not limited by us."""
        return None

    async def render(self, items: Sequence[Item], given: Slice) -> list[Outcome]:
        """See renderers.Renderer."""
        assert given.documents is not None
        effects = self._effects.of([item.resource for item in items])
        began_s = time.perf_counter()
        try:
            found = await given.documents.stored(self._store.namespace, self._store.item_key, effects.records)
        except WellspringError as error:
            return [RenderFailed(error.reason or "STORE_UNAVAILABLE", error.message) for _ in items]
        finally:
            given.seconds += time.perf_counter() - began_s
        return [_page(stored, tags) for stored, tags in zip(found, effects.tags, strict=True)]

    async def close(self) -> None:
        """Nothing is held."""


def _page(stored: Stored | None, own_tags: Sequence[str]) -> Page:
    """The page with its own tags only, so that it has the hash that it has at home. Its inputs are known there."""
    if stored is None:
        return Page(b"", "text/plain", None, (), missing=True)
    tags = tuple(tag for tag in stored.tags if tag not in own_tags)
    return Page(stored.body, stored.content_type, None, tags, stored_as=stored.version)
