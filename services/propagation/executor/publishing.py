"""What changed goes out: stored, then purged, then published, then called for; each page's own trouble is its own.

The order is the promise: a page is stored before it is purged, purged before anybody is told, and done only when all
have acknowledged. A page that was taken from another data centre is stored already and was called for there: here it is
purged and published, with the version that it was stored with.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.purge.caches import tag_purges
from libs.purge.client import Purge, purge_of_url
from services.propagation.executor.calls import ViewCalls
from services.propagation.executor.pages import Item, Page, RenderFailed, Withheld
from services.propagation.executor.ports import Caches, Documents, Output
from services.propagation.executor.publications import ViewPublications
from services.propagation.executor.templates import Effects, EffectTemplates
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import WellspringError

Problem = RenderFailed | Withheld


@dataclass(slots=True)
class Changed:
    """A page that has other bytes than before."""

    item: Item
    page: Page
    hash: bytes


class Publisher:
    """Of one view."""

    def __init__(self, view: work_pb2.View, calls: ViewCalls, publications: ViewPublications) -> None:
        self._view = view
        self._taken = view.render.WhichOneof("kind") == "take"
        self._stores = bool(view.store.namespace) and not self._taken
        self._effects = EffectTemplates(view)
        self.calls = calls
        self.publications = publications

    async def publish(
        self, changed: Sequence[Changed], rendered_version: bytes, documents: Documents, caches: Caches, cause: str = ""
    ) -> list[Problem | None]:
        """In order None where all is done, or what was in the way. `cause` is the id of what brought it about."""
        if not self._taken:
            return await self._publish(changed, rendered_version, documents, caches, cause)
        problems: list[Problem | None] = [None] * len(changed)
        places: dict[bytes, list[int]] = {}
        for at, one in enumerate(changed):
            # Of a page that is gone it may be unknown as of which version: caches forget whatever they have.
            places.setdefault(one.page.stored_as, []).append(at)
        for version, alike in places.items():
            told = await self._publish([changed[at] for at in alike], version, documents, caches, cause)
            for at, problem in zip(alike, told, strict=True):
                problems[at] = problem
        return problems

    async def _publish(
        self, changed: Sequence[Changed], rendered_version: bytes, documents: Documents, caches: Caches, cause: str
    ) -> list[Problem | None]:
        problems: list[Problem | None] = [None] * len(changed)
        effects = self._effects.of([one.item.resource for one in changed])
        if self._stores:
            await self._store(changed, effects, rendered_version, documents, problems)
        for at, why in (await _purge(effects, problems, rendered_version, caches)).items():
            problems[at] = RenderFailed("PURGE_FAILED", why)
        if self._view.publishes:
            left = [at for at, problem in enumerate(problems) if problem is None]
            told = await self.publications.make([changed[at].item for at in left], rendered_version, cause)
            for at, problem in told.items():
                problems[left[at]] = problem
        if self._view.calls and not self._taken:
            left = [at for at, problem in enumerate(problems) if problem is None]
            found = await self.calls.make([changed[at].item for at in left], rendered_version)
            for at, problem in found.items():
                problems[left[at]] = problem
        return problems

    async def close(self) -> None:
        """Gives its lanes back."""
        await self.calls.close()
        await self.publications.close()

    async def _store(
        self,
        changed: Sequence[Changed],
        effects: Effects,
        rendered_version: bytes,
        documents: Documents,
        problems: list[Problem | None],
    ) -> None:
        outputs = []
        for one, record, tags in zip(changed, effects.records, effects.tags, strict=True):
            page = one.page
            outputs.append(Output(record, None if page.missing else page.body, page.content_type, tags + page.tags))
        store = self._view.store
        try:
            told = await documents.put(store.namespace, store.item_key, outputs, rendered_version)
        except WellspringError as error:
            problems[:] = [RenderFailed(error.reason or "STORE_UNAVAILABLE", error.message) for _ in changed]
            return
        for at, refused in enumerate(told):
            if refused is not None:
                problems[at] = RenderFailed("STORE_REFUSED", refused)


async def _purge(
    effects: Effects, problems: Sequence[Problem | None], rendered_version: bytes, caches: Caches
) -> dict[int, str]:
    """Why a page is not purged from every cache, by its place in `effects`. Those with problems are left out."""
    purges: list[Purge] = []
    owners: list[int] = []
    for number, (urls, problem) in enumerate(zip(effects.urls, problems, strict=True)):
        if problem is None:
            for url in urls:
                purges.append(purge_of_url(url, rendered_version))
                owners.append(number)
    # Tags of many pages go together; one that is refused leaves all of them to be purged again.
    tagged = [number for number, tags in enumerate(effects.tags) if tags and problems[number] is None]
    purges += tag_purges((tag for number in tagged for tag in effects.tags[number]), rendered_version)
    if not purges:
        return {}
    found: dict[int, str] = {}
    for index, error in (await caches.purge(purges)).items():
        found.update(dict.fromkeys([owners[index]] if index < len(owners) else tagged, str(error)))
    return found
