"""Inputs: a number for each (resource, aspect) that anything depends on or that ever changed, both ways.

Aspects are few words; each has a number too, and "content" is 0, so that most keys are a resource's number alone.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import chain, repeat

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from libs.embedded.family import Family
from services.propagation.store.edges import Keys, pair, unpair
from services.propagation.store.embedded_columns import Column
from services.propagation.store.embedded_draft import Draft
from services.propagation.store.embedded_layout import MOST_ASPECTS, MOST_INPUTS, check_room, u32
from services.propagation.store.hot import Hot
from services.propagation.store.interface import InputChange, Numbers, UnknownNumber
from services.propagation.store.name_cache import NameCache
from services.propagation.store.numbers import group_starts, to_numbers, to_set

CONTENT = "content"

_PARTS = np.dtype([("resource", "<u4"), ("aspect", "<u4")])  # the resource's number and one, so that nothing is zero
_CHANGE = np.dtype([("changed_at", "<u8"), ("root", "<u8"), ("version", "V16")])
_ASPECT = b"aspect/"
_ENTRY_BYTES = 150


class Inputs:
    """Input numbers of one store."""

    def __init__(self, meta: Family, inputs: Family, columns: Family, count: int, cache_bytes: int) -> None:
        self._meta = meta
        self._inputs = inputs
        self._parts = Column(columns, b"p", _PARTS)
        self._changes = Column(columns, b"c", _CHANGE, bits=6)
        # By resource and aspect; and for content by the resource's name, which spares looking twice.
        self._hot: Hot[int] = Hot(cache_bytes // 3)
        self.named = NameCache(cache_bytes - cache_bytes // 3)
        self._changed = BitMap()
        for first, values in self._changes.blocks():
            self._changed |= to_set((np.flatnonzero(values["changed_at"]) + first).astype(np.uint32))
        self._unwritten: dict[int, int] = {}
        self._aspects = [CONTENT]
        found = {int.from_bytes(value, "big"): key[len(_ASPECT) :].decode() for key, value in meta.scan(_ASPECT)}
        self._aspects += [found[number] for number in sorted(found)]
        self._codes = {aspect: code for code, aspect in enumerate(self._aspects)}
        self._aspects_written = len(self._aspects)
        self.next = count
        self.count = count

    # -- numbers ------------------------------------------------------------------------------------------------------

    def find(self, resource: int, aspect: str) -> int:
        """The number of a written input, -1 when there is none."""
        code = self._codes.get(aspect)
        value = None if code is None else self._inputs.get(_key(resource, code))
        return -1 if value is None else int.from_bytes(value, "big")

    def intern(
        self, resources: Numbers, aspects: Sequence[str] | str, resource_count: int
    ) -> tuple[Numbers, dict[int, int]]:
        """(numbers, those not written yet, by resource << 32 | aspect). `resource_count`: those below may be written.

        Raises TooMany.
        """
        pairs = self._pairs(resources, aspects)
        ordered = np.sort(pairs)
        distinct = ordered[group_starts(ordered)]
        keys = distinct.tolist()
        found = self._hot.get_many(keys)
        # A resource that is not written yet has no inputs to look for.
        missing = [at for at, number in enumerate(found) if number is None]
        written = bisect_left(missing, bisect_left(keys, resource_count << 32))
        sought = [_key(keys[at] >> 32, keys[at] & 0xFFFFFFFF) for at in missing[:written]]
        fresh: dict[int, int] = {}
        values = chain(self._inputs.get_many(sought), repeat(None))
        for at, value in zip(missing, values, strict=False):
            key = keys[at]
            if value is not None:
                found[at] = number = int.from_bytes(value, "big")
                self._hot.put(key, number, _ENTRY_BYTES)
                continue
            if key not in self._unwritten:
                self._unwritten[key] = check_room(self.next, MOST_INPUTS, "inputs")
                self.next += 1
            found[at] = fresh[key] = self._unwritten[key]
        numbers = np.array(found, np.uint32)
        return numbers[np.searchsorted(distinct, pairs)] if len(pairs) else numbers, fresh

    def aspects(self, codes: npt.NDArray[np.int64]) -> tuple[str, ...]:
        """The words behind codes of aspects, in order."""
        return tuple(self._aspects[code] for code in codes.tolist())

    def codes(self, aspects: Sequence[str]) -> Numbers:
        """The codes of aspects, in order, new ones given. Raises TooMany."""
        return np.array([self._code(aspect) for aspect in aspects], np.uint32)

    def give(self, inputs: dict[int, int], following: int) -> None:
        """These inputs (resource << 32 | aspect) have these numbers, given by another store; none below `following` is
        given to others."""
        self._unwritten.update(inputs)
        self.next = max(self.next, following)

    def draft(self, draft: Draft, fresh: dict[int, int]) -> tuple[Numbers, Numbers]:
        """Puts new inputs into a write; answers (inputs, resources) of those of the aspect "content"."""
        for code in range(self._aspects_written, len(self._aspects)):
            draft.put(self._meta, _ASPECT + self._aspects[code].encode(), u32(code))
        draft.put_many(
            self._inputs, [(_key(key >> 32, key & 0xFFFFFFFF), u32(number)) for key, number in fresh.items()]
        )
        resources, codes = unpair(np.fromiter(fresh, np.uint64, len(fresh)))
        numbers = np.fromiter(fresh.values(), np.uint32, len(fresh))
        parts = np.empty(len(fresh), _PARTS)
        parts["resource"], parts["aspect"] = resources + 1, codes
        self._parts.scatter(draft, numbers, parts)
        return numbers[codes == 0], resources[codes == 0]

    def written(self, fresh: dict[int, int]) -> None:
        """The write with these inputs was applied."""
        self._aspects_written = len(self._aspects)
        for key in fresh:
            self._unwritten.pop(key, None)
        self.count = max(self.count, max(fresh.values()) + 1)

    def learn(self, named: dict[bytes, int]) -> None:
        """These inputs, by the names of their resources, are written; their aspect is "content"."""
        self.named.put(named)

    # -- the way back -------------------------------------------------------------------------------------------------

    def parts(self, inputs: Numbers) -> list[tuple[int, str]]:
        """(resource, aspect) of each. Raises UnknownNumber."""
        if not len(inputs):
            return []
        parts = self._parts.gather(inputs)
        if not parts["resource"].all():
            raise UnknownNumber("an input number was asked for its parts that was never given")
        names = self._aspects
        aspects = [names[code] for code in parts["aspect"].tolist()]
        return list(zip((parts["resource"] - 1).tolist(), aspects, strict=True))

    def resources(self, inputs: Numbers, draft: Draft) -> Numbers:
        """The resources alone, those of the write included."""
        found: Numbers = self._parts.gather(inputs, draft)["resource"] - np.uint32(1)
        return found

    def of_resource(self, resource: int) -> list[tuple[int, str]]:
        """(input, aspect) of every input of a resource, by aspect."""
        found = [
            (int.from_bytes(value, "big"), self._aspects[int.from_bytes(key[4:], "big")])
            for key, value in self._inputs.scan(u32(resource))
        ]
        return sorted(found, key=lambda one: one[1])

    # -- changes ------------------------------------------------------------------------------------------------------

    def draft_change(self, draft: Draft, inputs: Numbers, change: InputChange) -> None:
        """Puts the newest change of inputs into a write."""
        value = np.zeros((), _CHANGE)
        value["changed_at"], value["root"] = change.changed_at, change.root
        value["version"] = np.void(change.version)
        self._changes.scatter(draft, inputs, value)
        # At once: what is in the set and was not written is looked up and not found.
        self._changed |= to_set(inputs)

    def draft_changes(self, draft: Draft, inputs: Numbers, changes: Sequence[InputChange]) -> None:
        """Puts the newest change of each input into a write."""
        values = np.zeros(len(inputs), _CHANGE)
        values["changed_at"] = [change.changed_at for change in changes]
        values["root"] = [change.root for change in changes]
        values["version"] = np.frombuffer(b"".join([change.version for change in changes]), "V16")
        self._changes.scatter(draft, inputs, values)
        self._changed |= to_set(inputs)

    def changes(self, inputs: Iterable[int]) -> dict[int, InputChange]:
        """The newest changes of those that ever changed."""
        numbers = to_numbers(to_set(np.fromiter(inputs, np.uint32)) & self._changed)
        if not len(numbers):
            return {}
        found = self._changes.gather(numbers)
        return {
            number: InputChange(changed_at, version, root)
            for number, (changed_at, root, version) in zip(numbers.tolist(), found.tolist(), strict=True)
            if changed_at
        }

    def _pairs(self, resources: Numbers, aspects: Sequence[str] | str) -> Keys:
        if isinstance(aspects, str):
            codes: npt.NDArray[np.uint32] = np.full(len(resources), self._code(aspects), np.uint32)
        elif len(aspects) == len(resources):
            by_name = {aspect: self._code(aspect) for aspect in set(aspects)}
            codes = np.fromiter(map(by_name.__getitem__, aspects), np.uint32, len(resources))
        else:
            raise ValueError(f"{len(resources)} resources have {len(aspects)} aspects")
        return pair(resources, codes)

    def _code(self, aspect: str) -> int:
        code = self._codes.get(aspect)
        if code is None:
            code = self._codes[aspect] = check_room(len(self._aspects), MOST_ASPECTS, "aspects")
            self._aspects.append(aspect)
        return code


def _key(resource: int, code: int) -> bytes:
    return u32(resource) + (code.to_bytes(2, "big") if code else b"")
