"""For tests: entries in memory, with the rules of the scripts, and with faults on demand.

Time is the test's: ``now_ms`` moves when it says so. ``fault`` is asked before each exchange: LOST is never done,
UNANSWERED is done at once, DELAYED when the test says so; all three are failures to whoever asked.
"""

import enum
from collections.abc import Callable, Sequence
from typing import TypeVar

from services.storage.cache.entries import CacheUnavailable, Found, Look, Place, PutPage, State

T = TypeVar("T")

MARK_MS = 60_000


class Fault(enum.Enum):
    """What becomes of an exchange."""

    NONE = 0
    LOST = 1
    UNANSWERED = 2
    DELAYED = 3


class _Entry:
    def __init__(self) -> None:
        self.lease = b""
        self.page: bytes | None = None
        self.ends_ms = 0
        self.marks: dict[bytes, int] = {}


class Memory:
    """What all servers of a test share."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.entries: dict[Place, _Entry] = {}
        self.generations: dict[int, int] = {}
        self.made = 0
        self.delayed: list[Callable[[], object]] = []

    def next(self) -> int:
        """A number never used before."""
        self.made += 1
        return self.made


class FakeEntries:
    """``Entries`` over a ``Memory``."""

    def __init__(self, memory: Memory, fault: Callable[[str], Fault] = lambda _: Fault.NONE) -> None:
        self._memory = memory
        self._fault = fault

    async def look(self, looks: Sequence[Look]) -> list[Found]:
        """As ``Entries.look``."""
        return self._faulty("look", lambda: self._look_all(looks))

    async def put(self, pages: Sequence[PutPage]) -> None:
        """As ``Entries.put``."""
        self._faulty("put", lambda: self._put(pages))

    async def mark(self, places: Sequence[Place], writer: bytes, renew: Sequence[int]) -> None:
        """As ``Entries.mark``."""
        self._faulty("mark", lambda: self._mark(places, writer, renew))

    async def unmark(self, places: Sequence[Place], writer: bytes) -> None:
        """As ``Entries.unmark``."""
        self._faulty("unmark", lambda: self._unmark(places, writer))

    async def renew(self, numbers: Sequence[int]) -> None:
        """As ``Entries.renew``."""
        self._faulty("renew", lambda: [self._memory.generations.pop(number, None) for number in numbers])

    async def close(self) -> None:
        """Nothing is open."""

    def _faulty(self, name: str, work: Callable[[], T]) -> T:
        fault = self._fault(name)
        if fault is Fault.LOST:
            raise CacheUnavailable("lost")
        if fault is Fault.DELAYED:
            self._memory.delayed.append(work)
            raise CacheUnavailable("delayed")
        done = work()
        if fault is Fault.UNANSWERED:
            raise CacheUnavailable("unanswered")
        return done

    def _look_all(self, looks: Sequence[Look]) -> list[Found]:
        memory = self._memory
        numbers = {look.place.number for look in looks}
        for number in numbers.difference(memory.generations) | {look.place.number for look in looks if look.renew}:
            memory.generations[number] = memory.next()
        return [self._look(one) for one in looks]

    def _look(self, look: Look) -> Found:
        memory = self._memory
        generation = memory.generations[look.place.number]
        entry = self._entry(look.place)
        if entry.lease and not entry.lease.startswith(b"%d." % generation):
            entry = memory.entries[look.place] = _Entry()
        if entry.marks:
            return Found(State.WRITING)
        if not entry.lease:
            entry.lease = b"%d.%d" % (generation, memory.next())
            entry.ends_ms = memory.now_ms + look.max_age_ms
        if entry.page is None:
            return Found(State.MISS, lease=entry.lease)
        return Found(State.HIT, entry.page, entry.lease)

    def _put(self, pages: Sequence[PutPage]) -> None:
        for one in pages:
            entry = self._entry(one.place)
            if entry.lease and entry.lease == one.lease:
                entry.page = one.page

    def _mark(self, places: Sequence[Place], writer: bytes, renew: Sequence[int]) -> None:
        for number in renew:
            self._memory.generations.pop(number, None)
        for place in places:
            entry = self._entry(place)
            entry.lease, entry.page = b"", None
            entry.marks[writer] = self._memory.now_ms + MARK_MS

    def _unmark(self, places: Sequence[Place], writer: bytes) -> None:
        for place in places:
            entry = self._entry(place)
            if entry.marks.pop(writer, None) is None:
                entry.lease, entry.page = b"", None

    def _entry(self, place: Place) -> _Entry:
        """The entry, without what is over."""
        entry = self._memory.entries.setdefault(place, _Entry())
        now_ms = self._memory.now_ms
        if entry.lease and entry.ends_ms <= now_ms:
            entry = self._memory.entries[place] = _Entry()
        entry.marks = {writer: ends_ms for writer, ends_ms in entry.marks.items() if ends_ms > now_ms}
        return entry
