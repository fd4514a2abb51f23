"""Takes the pages that another data centre rendered, as the store has them by now.

The engine lends a page once the store here has it, so that nothing older is taken; the page is known by the version
that it was rendered and stored with, and is purged with that. A newer version is purged though its bytes are those of
the last one taken: what the store had between the two may lie in the caches (decision 0144). A page that is gone is
purged with the version as of which its home told so: the store here may yet show what came before (decision 0153).
"""

import time
from collections.abc import Sequence

from services.propagation.executor.pages import Item, Outcome, Page, RenderFailed, SawOlder
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
        records = self._effects.of([item.resource for item in items]).records
        began_s = time.perf_counter()
        try:
            found = await given.documents.stored(self._store.namespace, self._store.item_key, records)
        except WellspringError as error:
            return [RenderFailed(error.reason or "STORE_UNAVAILABLE", error.message) for _ in items]
        finally:
            given.seconds += time.perf_counter() - began_s
        return list(map(_page, items, found))

    async def close(self) -> None:
        """Nothing is held."""


def _page(item: Item, stored: Stored | None) -> Page | SawOlder:
    """The page as it lies there. Its inputs are known at home. One that came back and is gone again may come here after
    it was told of."""
    if stored is None:
        return Page(b"", "text/plain", None, (), missing=True, stored_as=item.gone_version)
    if stored.version < item.gone_version:
        return SawOlder()
    return Page(stored.body, stored.content_type, None, stored.tags, stored_as=stored.version)
