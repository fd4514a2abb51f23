"""Looks at a page through every cache as a reader would, inner before outer, and purges those that kept an older one.

In that order, since an outer cache that is purged asks the inner one, which must not give it the old page again.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from libs.purge.client import PurgeFailed
from libs.telemetry.logs import fields
from services.propagation.auditor.addressing import PageAddress, ViewAddresses
from services.propagation.auditor.judging import Expected, Verdict, judge
from services.propagation.auditor.ports import Cache, Pages, Seen, StoredPage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a page (`url`: its path) in the instance of a cache that is `at` an address.

    `repaired` is None where nothing was purged, else whether the page was right when it was looked at again.
    """

    cache: str
    at: str
    url: str
    verdict: Verdict
    version: bytes | None
    repaired: bool | None = None


@dataclass(slots=True)
class _Question:
    """What a look is about; `stored` is the store's answer, once it was asked."""

    view: ViewAddresses
    page: PageAddress
    expected: Expected
    stored: list[StoredPage | None] = field(default_factory=list)


class Looks:
    """The caches, inner before outer. `repair` off: what is stale is only told."""

    def __init__(self, caches: Sequence[Cache], pages: Pages, *, repair: bool = True) -> None:
        self.caches = tuple(caches)
        self._pages = pages
        self._repair = repair

    async def look(
        self, view: ViewAddresses, page: PageAddress, expected: Expected, *, repair: bool = True
    ) -> list[Look]:
        """One look for each instance and URL. Raises the SDK's errors, where the store had to be asked."""
        question = _Question(view, page, expected)
        found = []
        for url in page.urls:
            for cache in self.caches:
                seen, verdict = await self._see(cache, url, question)
                repaired = None
                if verdict is Verdict.STALE:
                    repaired = await self._repaired(cache, url, question) if repair and self._repair else None
                    told = fields(
                        page=page.resource, view=page.view, cache=cache.name, at=cache.url, url=url, repaired=repaired
                    )
                    logger.warning("a cache kept an older page", extra=told)
                found.append(Look(cache.name, cache.url, url, verdict, seen.version, repaired))
        return found

    async def forget(self, page: PageAddress) -> bool:
        """Purges the page from every cache, whatever its version; whether all have acknowledged."""
        good = True
        for url in page.urls:
            for cache in self.caches:
                try:
                    await cache.purge(url, b"")
                except PurgeFailed as error:
                    logger.warning("a page could not be purged", extra=fields(cache=cache.name, why=str(error)))
                    good = False
        return good

    async def _see(self, cache: Cache, url: str, question: _Question) -> tuple[Seen, Verdict]:
        seen = await cache.look(url)
        verdict = judge(seen, question.expected)
        if verdict is Verdict.MISSING:
            if not question.stored:
                # The page may have gone since: then there is none to be missed.
                view = question.view
                question.stored += await self._pages.fetch(
                    view.namespace, view.item_key, [question.page.wanted], strong=True
                )
            verdict = Verdict.FRESH if question.stored[0] is None else Verdict.STALE
        return seen, verdict

    async def _repaired(self, cache: Cache, url: str, question: _Question) -> bool:
        try:
            await cache.purge(url, question.expected.version)
        except PurgeFailed as error:
            logger.warning("a stale page could not be purged", extra=fields(cache=cache.name, why=str(error)))
            return False
        return (await self._see(cache, url, question))[1] is Verdict.FRESH
