"""What the cache keeps of records and what keeps it true: the protocol, in four exchanges with whoever holds the
entries.

An entry belongs to one record of one namespace. It holds either a *lease*, and the record's page once somebody has read
it under that lease, or the marks of writers at work, never both:

* ``look`` finds the page, or hands out the record's lease under which what the store answers may be put. There is no
  lease while a writer is at work.
* ``put`` keeps a page if its lease is still the record's.
* ``mark`` comes before a write: it ends the lease, drops the page and keeps readers at the store until the mark is
  gone.
* ``unmark`` comes after the write. A mark that was lost meanwhile (pushed out, over its time) takes with it whatever
  was put in its absence.

So whoever learns of a write, by its answer, by the change feed or by a read of the store, finds it: before the mark is
gone readers ask the store, and after it only what was read later can be put. Whatever is lost can
make a page unreachable, and none reachable again: a lease is random, ends with its entry, and counts only in
the *generation* of its namespace, random too. ``renew`` begins another generation: what must be done, before a page is
believed again, by a server that could not mark a write or could not be sure of it.
"""

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from libs.errors.errors import Unavailable


class CacheUnavailable(Unavailable):
    """The exchange failed: it may have been done, or be done later."""

    default_reason = "CACHE_UNAVAILABLE"


class Place(NamedTuple):
    """A record: the number of its namespace, and its key."""

    number: int
    record: bytes


class State(enum.Enum):
    """What ``look`` found: a page, none, or a writer at work."""

    HIT = 1
    MISS = 2
    WRITING = 3


class Found(NamedTuple):
    """``page`` is a hit's; ``lease`` a miss's, under which a page may be put."""

    state: State
    page: bytes = b""
    lease: bytes = b""


class Look(NamedTuple):
    """A record's page asked for. ``renew``: in a new generation. ``max_age_ms``: an entry that begins with this look
    ends so long after it, so that no page is older."""

    place: Place
    max_age_ms: int
    renew: bool


class PutPage(NamedTuple):
    """A page to keep."""

    place: Place
    lease: bytes
    page: bytes


class Entries(Protocol):
    """Who holds the entries. Every method raises CacheUnavailable."""

    async def look(self, looks: Sequence[Look]) -> list[Found]:
        """One answer for each."""

    async def put(self, pages: Sequence[PutPage]) -> None:
        """Keeps those whose lease holds."""

    async def mark(self, places: Sequence[Place], writer: bytes, renew: Sequence[int]) -> None:
        """Marks records as being written by ``writer``, a name of its own for each write, for at most the time that
        marks have. ``renew``: namespaces that begin a new generation."""

    async def unmark(self, places: Sequence[Place], writer: bytes) -> None:
        """Ends the marks of ``writer``."""

    async def renew(self, numbers: Sequence[int]) -> None:
        """Begins a new generation of each namespace."""

    async def close(self) -> None: ...
