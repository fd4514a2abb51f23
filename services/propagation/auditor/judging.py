"""The judgements: engine against store, and a cache's answer against what readers must at least get."""

from dataclasses import dataclass
from enum import StrEnum

from services.propagation.auditor.ports import Output, Seen, StoredPage
from services.propagation.executor.hashing import GONE

_NOT_THERE = (404, 410)
_NUMBER_BYTES = 8
_LEAST_TIME = (1 << 48).to_bytes(_NUMBER_BYTES, "big")
"""1978 in microseconds; an engine that started so often would have started a thousand times a second since then."""


class Finding(StrEnum):
    """How a store differs from the engine."""

    LOST = "lost"
    """The engine has published it, the store has not got it."""
    OLDER = "older"
    """The store has an earlier render: a backup was restored, or a put was lost."""
    DAMAGED = "damaged"
    """The version of the accepted render, with other bytes."""
    AHEAD = "ahead"
    """The store has a later render, which was never accepted."""
    OVERWRITTEN = "overwritten"
    """Somebody wrote over the page: a plain put, which lies above all renders until it is deleted."""
    LEFT = "left"
    """The page is gone, the store still has it."""
    ORPHAN = "orphan"
    """In the store where a view's pages lie, and the engine knows of no such output."""


class Verdict(StrEnum):
    """What a look at a cache says."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"
    """There is no page. Fresh or stale: that is for the store to say."""
    UNKNOWN = "unknown"
    """A page that says no version."""
    UNREACHABLE = "unreachable"
    """No answer, or an error."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What readers must get: a page of at least this version, or, of one that is gone, none that is older."""

    version: bytes
    gone: bool = False


def compare(output: Output, stored: StoredPage | None) -> Finding | None:
    """How the store differs, None when it does not.

    A store's version below the engine's is no difference by itself: a render with the same bytes is not stored again.
    """
    if stored is None:
        return None if output.hash == GONE else Finding.LOST
    if output.hash == GONE:
        return Finding.LEFT
    if stored.hashes is None or output.hash in stored.hashes:
        return None
    if is_plain(stored.version):
        return Finding.OVERWRITTEN
    if stored.version == output.version:
        return Finding.DAMAGED
    return Finding.OLDER if stored.version < output.version else Finding.AHEAD


def is_plain(version: bytes) -> bool:
    """Whether the version is of a plain put, whose first 8 bytes are microseconds, or else of a render (an epoch)."""
    return version[:_NUMBER_BYTES] >= _LEAST_TIME


def judge(seen: Seen, expected: Expected) -> Verdict:
    """What a cache's answer means."""
    if seen.status in _NOT_THERE:
        return Verdict.FRESH if expected.gone else Verdict.MISSING
    if seen.status != 200:
        return Verdict.UNREACHABLE
    if seen.version is None:
        return Verdict.UNKNOWN
    return Verdict.FRESH if seen.version >= expected.version else Verdict.STALE
