"""A store whose reads of records go through a cache where their namespace asks for it.

The cache may fail at any moment and never fails a request: what it cannot answer the store does. ``entries.py`` says
what keeps it true, ``trust.py`` what is done after it could not be told of a write.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from libs.errors.errors import Code, WellspringError
from services.storage.cache import pages
from services.storage.cache.entries import CacheUnavailable, Entries, Found, Look, Place, PutPage, State
from services.storage.cache.selecting import keepable, over, select, too_big, whole
from services.storage.cache.stats import Stats
from services.storage.cache.switch import CACHEABLE, Switch
from services.storage.cache.trust import Trust
from services.storage.domain.copying import Copied
from services.storage.domain.errors import BatchBudgetSpent
from services.storage.domain.model import Command, Receipt, Selection
from services.storage.domain.namespace import Namespace
from services.storage.store.interface import Page, Read, Store, Write
from services.storage.store.tasks import Tasks

T = TypeVar("T")

CARE_S: Final = 1.0
"""How often generations that are owed are tried to be begun."""
_WRITER: Final = 12
_UNSURE: Final = (Code.UNAVAILABLE, Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS, Code.DEADLINE_EXCEEDED, Code.CANCELLED)
"""After these a write may have happened, or happen later: its mark stays until it is over by itself."""


@dataclass(frozen=True, slots=True)
class Options:
    """``key`` seals the pages; ``max_age_us`` is how old one may be where its namespace says nothing less;
    ``max_entry_bytes`` how large; ``settle_s`` as ``Switch``."""

    key: bytes = field(repr=False)
    max_age_us: int
    max_entry_bytes: int = 64 * 1024
    settle_s: float = 0.0


class CachedStore:
    """A decorator of a ``Store``; all that is not about records' pages is the store's own. It begins with
    :meth:`start`, and the cache need not be there."""

    def __init__(
        self,
        inside: Store,
        entries: Entries,
        options: Options,
        clock_us: Callable[[], int],
        monotonic_s: Callable[[], float],
    ) -> None:
        self.stats = Stats()
        self._inside = inside
        self._entries = entries
        self._options = options
        self._clock_us = clock_us
        self._trust = Trust(monotonic_s)
        self._switch = Switch(monotonic_s, options.settle_s)
        self._work = Tasks()

    async def start(self) -> None:
        """Before anything is asked of it."""
        await self._work.start()

    @property
    def as_store(self) -> Store:
        """Itself, as what it decorates."""
        return cast(Store, self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)

    async def close(self) -> None:
        """Waits for what is under way and closes the cache; the store belongs to who opened it."""
        await self._work.close()
        await self._entries.close()

    # Reads

    async def read(self, read: Read) -> Page:
        """As ``Store.read``."""
        if not self._reads(read):
            return await self._inside.read(read)
        (found,) = await self._look([read])
        page = self._opened(read, found)
        if page is None and found is not None and found.lease:
            page = await self._inside.read(whole(read, self._options.max_entry_bytes))
            await self._put([(read, found.lease, page)])
        if page is None or page.resume is not None:
            return await self._inside.read(read)
        return select(page, read, read.max_bytes)

    async def read_many(self, reads: Sequence[Read], max_bytes: int) -> list[Page | WellspringError]:
        """As ``Store.read_many``."""
        through = {_place(read): read for read in reads if self._reads(read)}
        if not through:
            return await self._inside.read_many(reads, max_bytes)
        kept = await self._kept_pages(through, max_bytes)
        left = max_bytes
        answers: list[Page | WellspringError | None] = []
        for read in reads:
            page = kept.get(_place(read)) if self._answerable(read) else None
            if page is None:
                answers.append(None)
            elif left <= 0:
                answers.append(BatchBudgetSpent("the batch's answer is full; ask again for this one and the rest"))
            else:
                page = select(page, read, min(read.max_bytes, left))
                left -= page.size
                answers.append(page)
        direct = [read for read, answer in zip(reads, answers, strict=True) if answer is None]
        rest = iter(await self._inside.read_many(direct, left) if direct else ())
        return [next(rest) if answer is None else answer for answer in answers]

    async def _kept_pages(self, reads: Mapping[Place, Read], max_bytes: int) -> dict[Place, Page]:
        """Pages of whole records, of those that can be had."""
        found = await self._look(list(reads.values()))
        kept: dict[Place, Page] = {}
        missing: list[tuple[Read, bytes]] = []
        for (place, read), one in zip(reads.items(), found, strict=True):
            page = self._opened(read, one)
            if page is not None:
                kept[place] = page
            elif one is not None and one.lease:
                missing.append((read, one.lease))
        if missing:
            wholes = [whole(read, self._options.max_entry_bytes) for read, _ in missing]
            came = zip(missing, await self._inside.read_many(wholes, max_bytes), strict=True)
            answered = [(read, lease, page) for (read, lease), page in came if isinstance(page, Page)]
            await self._put(answered)
            kept |= {_place(read): page for read, _, page in answered}
        return {place: page for place, page in kept.items() if page.resume is None}

    def _reads(self, read: Read) -> bool:
        """Whether the read may be answered from the cache; counts those that may not."""
        if not self._switch.reads(read.namespace):
            return False
        if self._answerable(read):
            return True
        self.stats.bypassed += 1
        return False

    def _answerable(self, read: Read) -> bool:
        consistency = read.consistency or read.namespace.settings.default_consistency
        return not read.seen and consistency in CACHEABLE

    async def _look(self, reads: Sequence[Read]) -> Sequence[Found | None]:
        """What the cache has of each read's record; None: it does not say."""
        renewed = {read.namespace.number for read in reads if not self._trust.trusts(read.namespace.number)}
        looks = [Look(_place(read), self._max_age_ms(read), read.namespace.number in renewed) for read in reads]
        debts = self._trust.debts
        _, found = await self._tried(lambda: self._entries.look(looks))
        if found is None:
            return [None] * len(reads)
        self._renewed(renewed, debts)
        return found

    def _max_age_ms(self, read: Read) -> int:
        most_us = self._options.max_age_us
        return max(1, min(read.namespace.settings.cache.max_age_us or most_us, most_us) // 1000)

    def _opened(self, read: Read, found: Found | None) -> Page | None:
        """The page that was found, counted; None: there is none that may be answered."""
        if found is None:
            return None
        stats = self.stats
        if found.state is not State.HIT:
            stats.misses += found.state is State.MISS
            stats.writing += found.state is State.WRITING
            return None
        page = pages.open_page(found.page, _place(read), self._options.key)
        if page is None:
            stats.damaged += 1
        elif page.resume is not None:
            stats.too_big += 1
        elif over(page, self._clock_us()):
            stats.expired += 1
            return None
        else:
            stats.hits += 1
        return page

    async def _put(self, answered: Sequence[tuple[Read, bytes, Page]]) -> None:
        """Keeps what the store answered under a lease; that a record is too big, too."""
        key, most = self._options.key, self._options.max_entry_bytes
        puts = []
        for read, lease, page in answered:
            place = _place(read)
            if keepable(page, most):
                puts.append(PutPage(place, lease, pages.close(page, place, key)))
            elif too_big(page, most):
                puts.append(PutPage(place, lease, pages.close(pages.TOO_BIG, place, key)))
        if puts:
            await self._done(lambda: self._entries.put(puts))

    # Writes

    async def mutate(self, writes: Sequence[Write]) -> list[Receipt | WellspringError]:
        """As ``Store.mutate``."""
        places = [self._marked_place(write.namespace, write.command.record) for write in writes]
        if not any(places):
            return await self._inside.mutate(writes)

        def unsure(results: list[Receipt | WellspringError]) -> list[Place]:
            both = zip(places, results, strict=True)
            return [place for place, result in both if place is not None and _unsure(result)]

        return await self._write(places, lambda: self._inside.mutate(writes), unsure)

    async def undelete(self, namespace: Namespace, command: Command, selection: Selection, version: bytes) -> Receipt:
        """As ``Store.undelete``."""
        place = self._marked_place(namespace, command.record)
        return await self._write([place], lambda: self._inside.undelete(namespace, command, selection, version))

    async def load(self, namespace: Namespace, items: Sequence[Copied], *, free: bool) -> list[bool]:
        """As ``Store.load``."""
        places = [self._marked_place(namespace, record) for record in {item.record for item in items}]
        return await self._write(places, lambda: self._inside.load(namespace, items, free=free))

    async def purge_namespace(self, namespace: Namespace) -> None:
        """As ``Store.purge_namespace``: its number is never used again, and its entries end by themselves."""
        await self._inside.purge_namespace(namespace)
        self._switch.forget(namespace.number)
        self._trust.forget(namespace.number)

    def _marked_place(self, namespace: Namespace, record: bytes) -> Place | None:
        """The place of a record whose writes are marked."""
        if self._switch.marks(namespace):
            return Place(namespace.number, record)
        self._trust.distrust(namespace.number)
        return None

    async def _write(
        self,
        places: Sequence[Place | None],
        write: Callable[[], Awaitable[T]],
        unsure: Callable[[T], Sequence[Place]] = lambda _: (),
    ) -> T:
        """A write of records, with its marks. It ends also when its caller is gone, so that what it may have done is
        never without one. ``unsure``: of what it answered, the records that may yet change."""
        some = list(dict.fromkeys(place for place in places if place is not None))
        if not some:
            return await write()
        return await self._work.run(self._written(some, write, unsure))

    async def _written(
        self, places: Sequence[Place], write: Callable[[], Awaitable[T]], unsure: Callable[[T], Sequence[Place]]
    ) -> T:
        writer = secrets.token_bytes(_WRITER)
        marked = await self._mark(places, writer)
        open_ends: Sequence[Place] = places
        try:
            result = await write()
            open_ends = unsure(result)
            return result
        except WellspringError as error:
            open_ends = places if _unsure(error) else ()
            raise
        finally:
            await self._settle(places, writer, set(open_ends), marked=marked)

    async def _mark(self, places: Sequence[Place], writer: bytes) -> bool:
        """Whether the records are marked. What is owed to their namespaces is paid with it."""
        owed = self._trust.owed & {place.number for place in places}
        debts = self._trust.debts
        if not await self._done(lambda: self._entries.mark(places, writer, sorted(owed))):
            return False
        self._renewed(owed, debts)
        return True

    async def _settle(self, places: Sequence[Place], writer: bytes, open_ends: set[Place], *, marked: bool) -> None:
        """Ends the marks of what is done, and leaves those of what may yet happen. Where the cache cannot be told, its
        entries are not believed any more."""
        ended = [place for place in places if place not in open_ends]
        told = not ended or await self._done(lambda: self._entries.unmark(ended, writer))
        if open_ends and not marked:
            told = await self._done(lambda: self._entries.mark(sorted(open_ends), writer, ())) and told
        if not told:
            self.stats.unmarked += 1
            self._trust.owe({place.number for place in places})
            self.stats.owed = len(self._trust.owed)

    # Care

    async def care(self) -> None:
        """Begins the generations that are owed, as soon as the cache can be told. Has no end."""
        while True:
            await asyncio.sleep(CARE_S)
            await self.pay()

    async def pay(self) -> None:
        """Begins the generations that are owed, if the cache can be told."""
        owed, debts = self._trust.owed, self._trust.debts
        if owed and await self._done(lambda: self._entries.renew(sorted(owed))):
            self._renewed(owed, debts)

    def _renewed(self, numbers: Collection[int], debts: int) -> None:
        if numbers:
            self.stats.renewals += len(numbers)
            self._trust.renewed(numbers, debts)
            self.stats.owed = len(self._trust.owed)

    async def _done(self, ask: Callable[[], Awaitable[None]]) -> bool:
        """Whether an exchange without an answer of its own was done."""
        done, _ = await self._tried(ask)
        return done

    async def _tried(self, ask: Callable[[], Awaitable[T]]) -> tuple[bool, T | None]:
        """(True, what an exchange answers), or (False, None) when it failed or was not tried."""
        if not self._trust.allows():
            self.stats.refused += 1
            return False, None
        try:
            answer = await ask()
        except CacheUnavailable:
            self.stats.failures += 1
            self._trust.failed()
            return False, None
        self._trust.answered()
        return True, answer


def _place(read: Read) -> Place:
    return Place(read.namespace.number, read.record)


def _unsure(result: object) -> bool:
    """Whether a write that was answered so may have happened, or happen yet, in another way than the answer says."""
    return isinstance(result, WellspringError) and result.code in _UNSURE
