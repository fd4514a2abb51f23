"""The log of renders: what each accepted completion rendered, for which roots, and which outputs it changed.

One packed record a completion, written in the completion's own commit, so that it costs a few sets and no entry for
each item, and is there after a crash if and only if the completion is. Streams of changed outputs are read from it in
the order of acceptance, and explanations look up which render showed a change. It is kept for the window of
remembrance, and never takes more than `Settings.history_bytes`: the oldest records go first.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct

from pyroaring import BitMap

from services.propagation.domain.sequence import decode, encode
from services.propagation.store.interface import Commit, Store

RENDER = "render"
_FORGOTTEN = ("meta", b"history_forgotten")
_HEAD = Struct(">QHQQHI")
"""Bytes written before this record and with it, view, lease sequence, wall time, parts, size of the items' set."""
_PART = Struct(">QBI")
"""Root (0: which outputs changed), kind, size of the set; no set stands for all the items."""
_OWN, _COVERED, _CHANGED = 0, 1, 2
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Mark:
    """A root that a completion moved: the items rendered by its own part of the lease, and those by another's."""

    root: int
    own: BitMap
    covered: BitMap


@dataclass(frozen=True, slots=True)
class Logged:
    """One completion: accepted as number `accepted`, of a lease that began at `lease`. Sets are resource numbers."""

    accepted: int
    view: int
    lease: int
    time_ns: int
    items: BitMap
    changed: BitMap
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class ItemRender:
    """One render of one item: `own` are roots that leased it, `covered` others that it was pending for."""

    lease: int
    time_ns: int
    changed: bool
    own: tuple[int, ...]
    covered: tuple[int, ...]


class History:
    """The log of one shard."""

    def __init__(self, store: Store, most_bytes: int) -> None:
        self._store = store
        self._most_bytes = most_bytes
        self._written = 0
        self.load()

    def load(self) -> None:
        """Reads how much was ever written."""
        self._written = 0
        for _, value in self._store.records(RENDER, reverse=True, limit=1):
            self._written = _HEAD.unpack_from(value)[0]

    def put(
        self,
        commit: Commit,
        accepted: int,
        view: int,
        lease: int,
        now_ns: int,
        items: BitMap,
        changed: BitMap,
        marks: Iterable[Mark],
    ) -> None:
        """Puts a completion's record into its commit."""
        whole = _packed(items)
        parts = [
            _part(mark.root, kind, members, items)
            for mark in marks
            for kind, members in ((_OWN, mark.own), (_COVERED, mark.covered))
            if members
        ]
        if changed:
            parts.append(_part(0, _CHANGED, changed, items))
        body = whole + b"".join(parts)
        self._written += _HEAD.size + len(body)
        head = _HEAD.pack(self._written, view, lease, now_ns, len(parts), len(whole))
        commit.put_record(RENDER, encode(accepted), head + body)

    def after(self, accepted: int) -> Iterator[Logged]:
        """Completions accepted after this number, oldest first."""
        for key, value in self._store.records(RENDER, start=encode(accepted + 1)):
            yield _logged(key, value)

    def at(self, accepted: int) -> Logged | None:
        """The completion accepted as this number."""
        key = encode(accepted)
        value = self._store.get_record(RENDER, key)
        return _logged(key, value) if value is not None else None

    def of_item(self, view: int, resource: int, rendered_at: int, since: int, most: int) -> list[ItemRender]:
        """Renders of an item, newest first, from the one whose lease began at `rendered_at` back to `since`.

        At most `most` records are looked at in each direction; what lies beyond is left out.
        """
        if not rendered_at:
            return []
        newest = self._find(view, resource, rendered_at, most)
        found = [newest] if newest is not None else []
        before = self._store.records(RENDER, end=encode(rendered_at), reverse=True, limit=most)
        for key, value in before:
            if decode(key) <= since:
                break
            render = _of_item(key, value, view, resource)
            if render is not None:
                found.append(render)
        return found

    def _find(self, view: int, resource: int, rendered_at: int, most: int) -> ItemRender | None:
        for key, value in self._store.records(RENDER, start=encode(rendered_at), limit=most):
            if _HEAD.unpack_from(value)[2] == rendered_at:
                render = _of_item(key, value, view, resource)
                if render is not None:
                    return render
        return None

    def forget(self, commit: Commit, oldest_ns: int) -> int:
        """Drops up to a chunk of records older than that, or above the bound on bytes; answers how many."""
        forgotten = 0
        for key, value in self._store.records(RENDER, limit=_CHUNK):
            written, _, _, time_ns, _, _ = _HEAD.unpack_from(value)
            if time_ns > oldest_ns and self._written - written + len(value) <= self._most_bytes:
                break
            commit.delete_record(RENDER, key)
            commit.put_record(*_FORGOTTEN, key)
            forgotten += 1
        return forgotten

    @property
    def forgotten_up_to(self) -> int:
        """The number of the newest completion that was forgotten, 0 when none was."""
        kept = self._store.get_record(*_FORGOTTEN)
        return decode(kept) if kept is not None else 0


def _packed(members: BitMap) -> bytes:
    compact = members.copy()
    compact.run_optimize()
    packed: bytes = compact.serialize()
    return packed


def _part(root: int, kind: int, members: BitMap, items: BitMap) -> bytes:
    packed = b"" if len(members) == len(items) else _packed(members)
    return _PART.pack(root, kind, len(packed)) + packed


def _parts(value: bytes, items: BitMap) -> Iterator[tuple[int, int, BitMap]]:
    _, _, _, _, count, size = _HEAD.unpack_from(value)
    at = _HEAD.size + size
    for _ in range(count):
        root, kind, length = _PART.unpack_from(value, at)
        at += _PART.size
        yield root, kind, BitMap.deserialize(value[at : at + length]) if length else items
        at += length


def _items(value: bytes) -> BitMap:
    size = _HEAD.unpack_from(value)[5]
    return BitMap.deserialize(value[_HEAD.size : _HEAD.size + size])


def _logged(key: bytes, value: bytes) -> Logged:
    _, view, lease, time_ns, _, _ = _HEAD.unpack_from(value)
    items = _items(value)
    changed = BitMap()
    own: dict[int, BitMap] = {}
    covered: dict[int, BitMap] = {}
    for root, kind, members in _parts(value, items):
        if kind == _CHANGED:
            changed = members
        else:
            (own if kind == _OWN else covered)[root] = members
    marks = tuple(
        Mark(root, own.get(root, BitMap()), covered.get(root, BitMap())) for root in dict.fromkeys((*own, *covered))
    )
    return Logged(decode(key), view, lease, time_ns, items, changed, marks)


def _of_item(key: bytes, value: bytes, view: int, resource: int) -> ItemRender | None:
    if _HEAD.unpack_from(value)[1] != view:
        return None
    logged = _logged(key, value)
    if resource not in logged.items:
        return None
    return ItemRender(
        logged.lease,
        logged.time_ns,
        resource in logged.changed,
        tuple(mark.root for mark in logged.marks if resource in mark.own),
        tuple(mark.root for mark in logged.marks if resource in mark.covered),
    )
