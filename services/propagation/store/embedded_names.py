"""Names and their numbers: a key a name, and for the way back blocks of 128 names.

A bounded cache keeps the names that were met last. New names are numbered at once and written with their commit.
"""

from collections.abc import Sequence
from itertools import repeat
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from libs.embedded.family import Family
from services.propagation.store.embedded_draft import Draft
from services.propagation.store.embedded_layout import MOST_RESOURCES, check_room, u32
from services.propagation.store.interface import Numbers, UnknownNumber
from services.propagation.store.name_cache import NameCache
from services.propagation.store.numbers import group_starts

_BITS = 7
_SIZE = 1 << _BITS


class Names:
    """Resource names of one store."""

    def __init__(self, names: Family, blocks: Family, count: int, cache_bytes: int) -> None:
        self._names = names
        self._blocks = blocks
        self._cache = NameCache(cache_bytes)
        self._unwritten: dict[bytes, int] = {}
        self.next = count
        self.count = count

    def find(self, names: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """Numbers of written names, -1 for others."""
        found = self._cache.find(names)
        missing = np.flatnonzero(found < 0).tolist()
        if missing:
            known = self._stored({names[at] for at in missing})
            if known:
                found[missing] = [known.get(names[at], -1) for at in missing]
        return found

    def intern(self, names: Sequence[bytes]) -> tuple[Numbers, dict[bytes, int]]:
        """(numbers, those of the names that are not written yet). Raises TooMany, ValueError for an empty name."""
        found = self.find(names)
        fresh: dict[bytes, int] = {}
        for at in np.flatnonzero(found < 0).tolist():
            name = names[at]
            number = self._unwritten.get(name)
            if number is None:
                if not name or b"\0" in name:
                    raise ValueError("a resource's name is not empty and has no NUL")
                number = self._unwritten[name] = check_room(self.next, MOST_RESOURCES, "resources")
                self.next += 1
            found[at] = fresh[name] = number
        return found.astype(np.uint32), fresh

    def give(self, names: dict[bytes, int], following: int) -> None:
        """These names have these numbers, given by another store; none below `following` is given to others."""
        self._unwritten.update(names)
        self.next = max(self.next, following)

    def numbers(self, names: Sequence[bytes]) -> Numbers:
        """Numbers of names that were interned, written or not."""
        found = self.find(names)
        for at in np.flatnonzero(found < 0).tolist():
            found[at] = self._unwritten[names[at]]
        return found.astype(np.uint32)

    def draft(self, draft: Draft, fresh: dict[bytes, int]) -> None:
        """Puts new names into a write."""
        numbers = np.fromiter(fresh.values(), np.uint32, len(fresh))
        draft.put_many(self._names, [(name, u32(fresh[name])) for name in sorted(fresh)])
        order = np.argsort(numbers, kind="stable")
        numbers, names = numbers[order], list(map(list(fresh).__getitem__, order.tolist()))
        starts = group_starts(numbers >> _BITS)
        blocks = (numbers[starts] >> _BITS).tolist()
        held = draft.get_many(self._blocks, [u32(block) for block in blocks])
        cuts = [*starts.tolist(), len(numbers)]
        for at, (block, value) in enumerate(zip(blocks, held, strict=True)):
            part = names[cuts[at] : cuts[at + 1]]
            if len(part) < _SIZE:
                within = (numbers[cuts[at] : cuts[at + 1]] & (_SIZE - 1)).tolist()
                part = _set(value.split(b"\0") if value else [], within, part)
            draft.put(self._blocks, u32(block), b"\0".join(part))

    def written(self, fresh: dict[bytes, int]) -> None:
        """The write with these names was applied."""
        for name in fresh:
            self._unwritten.pop(name, None)
        self._cache.put(fresh)
        self.count = max(self.count, max(fresh.values()) + 1)

    def _stored(self, names: set[bytes]) -> dict[bytes, int]:
        """Those of the names that are on disk."""
        # In order, because neighbours share blocks and filters: twice as fast as any other.
        sought = sorted(names)
        values = self._names.get_many(sought)
        if not any(values):
            return {}
        known = {name: int.from_bytes(value, "big") for name, value in zip(sought, values, strict=True) if value}
        self._cache.put(known)
        return known

    def of(self, resources: Numbers) -> list[bytes]:
        """The names, in order. Raises UnknownNumber."""
        if len(resources) > 1 and not bool((resources[1:] > resources[:-1]).all()):
            ordered = np.sort(resources)
            distinct = ordered[group_starts(ordered)]
            names = self.of(distinct)
            return [names[at] for at in np.searchsorted(distinct, resources).tolist()]
        return self.packed(resources).split(b"\0") if len(resources) else []

    def packed(self, resources: Numbers, draft: Draft | None = None) -> bytes:
        """The names of ascending resources, joined by NUL. Raises UnknownNumber."""
        starts = group_starts(resources >> _BITS)
        keys = [u32(block) for block in (resources[starts] >> _BITS).tolist()]
        values = draft.get_many(self._blocks, keys) if draft else self._blocks.get_many(keys)
        within = (resources & (_SIZE - 1)).tolist()
        cuts = [*starts.tolist(), len(within)]
        parts: list[bytes] = []
        try:
            for value, start, end in zip(values, cuts, cuts[1:], strict=False):
                if end - start == _SIZE and value and value.count(b"\0") == _SIZE - 1:
                    parts.append(value)
                elif end - start == 1:
                    parts.append((value or b"").split(b"\0")[within[start]])
                else:
                    parts.extend(itemgetter(*within[start:end])((value or b"").split(b"\0")))
        except IndexError:
            parts.append(b"")
        packed = b"\0".join(parts)
        if len(resources) and (not parts[0] or not parts[-1] or b"\0\0" in packed):
            raise UnknownNumber("a resource number was asked for its name that was never given one")
        return packed


def _set(names: list[bytes], places: list[int], new: list[bytes]) -> list[bytes]:
    """A block's names with new ones at their places."""
    short = places[-1] + 1 - len(names)
    names.extend(repeat(b"", max(0, short)))
    for place, name in zip(places, new, strict=True):
        names[place] = name
    return names
