"""What a mutation does to a record, decided from what is there: the heart of both modes, without any store.

A store that reads and writes in one step (embedded, memory) loads a record's view, asks :func:`decide` and writes
what it says. Nothing is changed here. All conditions are judged against the state before the mutation; deletes come
before puts.

LWW, item by item. A *stamp* is a version and its kind: a token's time, or *ordered* (given by ``older_than``).

* A put loses to a visible item with a higher version.
* A tombstone, or an item that has expired, blocks only writes of its own kind, those that are not above it: an ordered
  write asks for "older, or nothing there", and after a plain delete nothing is there.
* A plain delete removes what is not above it. Of an ordered item it leaves that item's own version as the tombstone, so
  that older renders stay dead and newer ones come through.
* A delete of a range also leaves a range tombstone, for late puts of keys that were not there.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from services.storage.domain.errors import ConditionFailed, ItemNotFound, ModeMismatch
from services.storage.domain.model import (
    Command,
    Condition,
    ConditionKind,
    Delete,
    Mode,
    Outcome,
    Put,
    Selection,
    etag_of,
)
from services.storage.domain.versions import assigned_version, token_delete_version, token_version


class Known(NamedTuple):
    """What is known of an item: its version, whether that is ordered, when it expires, and whether it is a
    tombstone."""

    version: bytes
    expire_us: int
    ordered: bool
    dead: bool


class RangeTomb(NamedTuple):
    """A delete of the keys in [start, end); ``end`` None is without end."""

    version: bytes
    ordered: bool
    start: bytes
    end: bytes | None
    due_us: int

    def covers(self, key: bytes) -> bool:
        """Whether ``key`` lies in the range."""
        return self.start <= key and (self.end is None or key < self.end)


class RecordView(Protocol):
    """A record as its store finds it. ``version`` is its newest (b"" for none), ``ordered`` that version's kind."""

    @property
    def version(self) -> bytes: ...

    @property
    def ordered(self) -> bool: ...

    @property
    def range_tombs(self) -> Sequence[RangeTomb]: ...

    def alive(self, now_us: int) -> bool:
        """Whether it has at least one item that has not expired."""

    def item(self, key: bytes) -> Known | None:
        """The item or tombstone at ``key``."""

    def items(self, selection: Selection) -> Iterable[tuple[bytes, Known]]:
        """The items selected, expired or not, without tombstones."""


class Stamp(NamedTuple):
    """A version and its kind."""

    version: bytes
    ordered: bool


class Decision:
    """What is to be written: removals first, then tombstones, then puts (each with its version and kind).

    ``removed`` are items that are there, with what was known of them; ``tombs`` the stamps to leave, by item key.
    ``deleted_items`` counts those of the removed that readers saw. ``outcome`` says how it went; a SUPERSEDED one
    may still leave tombstones, behind what readers see. ``write_us``: by item key, of puts that were written before.
    """

    __slots__ = (
        "deleted_items",
        "ordered",
        "outcome",
        "puts",
        "range_tombs",
        "removed",
        "tombs",
        "version",
        "write_us",
    )

    def __init__(self, version: bytes, ordered: bool = False) -> None:
        self.outcome = Outcome.APPLIED
        self.version = version
        self.ordered = ordered
        self.puts: list[tuple[Put, bytes, bool]] = []
        self.removed: dict[bytes, Known] = {}
        self.tombs: dict[bytes, Stamp] = {}
        self.range_tombs: list[RangeTomb] = []
        self.write_us: dict[bytes, int] = {}
        self.deleted_items = 0

    def superseded(self) -> "Decision":
        """The same version, and nothing to write."""
        decision = Decision(self.version, self.ordered)
        decision.outcome = Outcome.SUPERSEDED
        return decision


def visible(known: Known | None, now_us: int) -> bool:
    """Whether readers see it."""
    return known is not None and not known.dead and not (known.expire_us and known.expire_us <= now_us)


def check_modes(mode: Mode, command: Command) -> None:
    """Raises ModeMismatch for a condition that ``mode`` does not have."""
    if command.record_condition is not None:
        _check_mode(mode, command.record_condition, "record_condition")
    for position, change in command.changes():
        if change.condition is not None:
            _check_mode(mode, change.condition, f"mutations[{position}].condition")


def _check_mode(mode: Mode, condition: Condition, path: str) -> None:
    if (condition.kind is ConditionKind.OLDER_THAN) != (mode is Mode.LWW):
        allowed = "older_than" if mode is Mode.LWW else "absent and etag"
        raise ModeMismatch(
            f"{path}: a namespace of mode {mode.name} has the conditions {allowed}, not {condition.kind.value}",
            metadata={"mode": mode.name, "condition": condition.kind.value, "field": path},
        )


def decide(mode: Mode, view: RecordView, command: Command, now_us: int, newest: bytes, tomb_due_us: int) -> Decision:
    """What ``command`` does to ``view``.

    ``newest`` is the namespace's newest version (CAS gives the next one); ``tomb_due_us`` when new range tombstones may
    be forgotten. Raises ModeMismatch, ConditionFailed (CAS) and ItemNotFound (a delete of nothing that must exist).
    """
    check_modes(mode, command)
    if mode is Mode.CAS:
        decision = _decide_cas(view, command, now_us, newest)
    else:
        decision = _Lww(view, command, now_us, tomb_due_us).decide()
    return decision


def _decide_cas(view: RecordView, command: Command, now_us: int, newest: bytes) -> Decision:
    decision = Decision(assigned_version(now_us, newest, command.token.nonce))
    condition = command.record_condition
    if condition is not None:
        _check_holds(condition, etag_of(view.version) if view.alive(now_us) else "", -1)
    for position, change in command.changes():
        if change.condition is not None:
            key = change.key if isinstance(change, Put) else _one_key(change)
            known = view.item(key)
            current = etag_of(known.version) if known is not None and visible(known, now_us) else ""
            _check_holds(change.condition, current, position)
    for delete in command.deletes:
        for key, known in view.items(delete.selection):
            if key not in decision.removed:
                decision.removed[key] = known
                decision.deleted_items += visible(known, now_us)
    if command.must_exist and not decision.deleted_items:
        raise nothing_to_delete()
    decision.puts = [(put, decision.version, False) for put in command.puts]
    return decision


def _check_holds(condition: Condition, current: str, index: int) -> None:
    wanted = "" if condition.kind is ConditionKind.ABSENT else etag_of(condition.operand)
    if current != wanted:
        raise ConditionFailed(current, index)


def _one_key(delete: Delete) -> bytes:
    keys = delete.selection.keys
    assert keys is not None and len(keys) == 1  # validated with the request
    return keys[0]


def nothing_to_delete() -> ItemNotFound:
    """The error of a delete of nothing that must exist."""
    return ItemNotFound("nothing that the delete names is there; allow_missing makes such a delete succeed")


class _Lww:
    """One decision in an LWW namespace."""

    def __init__(self, view: RecordView, command: Command, now_us: int, tomb_due_us: int) -> None:
        self._view = view
        self._command = command
        self._now_us = now_us
        self._tomb_due_us = tomb_due_us
        self._seen = 0  # items that deletes found, whether they could remove them or not
        token = command.token
        self._put_version = token_version(token)
        self._delete_version = token_delete_version(token) if command.puts and command.deletes else self._put_version
        self._record_version = command.record_condition.operand if command.record_condition is not None else b""

    def decide(self) -> Decision:
        command, decision = self._command, self._empty()
        if self._record_version and self._record_blocks(self._record_version):
            return decision.superseded()
        for _, change in command.changes():
            if change.condition is not None:
                key = change.key if isinstance(change, Put) else _one_key(change)
                if self._blocks_ordered(key, change.condition.operand):
                    return decision.superseded()
        for delete in command.deletes:
            self._delete(delete, decision)
        if command.must_exist and not self._seen:
            raise nothing_to_delete()
        for put in command.puts:
            self._put(put, decision)
        if not (decision.puts or decision.removed) and (command.puts or self._seen):
            decision.outcome = Outcome.SUPERSEDED
        return decision

    def _empty(self) -> Decision:
        """The decision with the version that the receipt names: that of the puts, the highest if they differ."""
        if self._record_version:
            return Decision(self._record_version, True)
        command = self._command
        stamps = [
            (change.condition.operand, True) if change.condition is not None else (plain, False)
            for changes, plain in ((command.puts, self._put_version), (command.deletes, self._delete_version))
            for change in changes
        ]
        return Decision(*max(stamps))

    def _record_blocks(self, version: bytes) -> bool:
        """Whether the record has something that is not below ``version``; a plain delete leaves nothing there."""
        view = self._view
        return view.version >= version and (view.ordered or view.alive(self._now_us))

    def _blocks_ordered(self, key: bytes, version: bytes) -> bool:
        known = self._view.item(key)
        if known is not None and known.version >= version and (known.ordered or visible(known, self._now_us)):
            return True
        return self._range_blocks(key, version, True)

    def _blocks_plain(self, key: bytes, version: bytes) -> bool:
        known = self._view.item(key)
        if known is not None:
            if visible(known, self._now_us):
                if known.version > version:
                    return True
            elif not known.ordered and (known.version > version or (known.dead and known.version == version)):
                return True
        return self._range_blocks(key, version, False)

    def _range_blocks(self, key: bytes, version: bytes, ordered: bool) -> bool:
        tombs = self._view.range_tombs
        if not tombs:
            return False
        return any(tomb.ordered is ordered and tomb.version >= version and tomb.covers(key) for tomb in tombs)

    def _put(self, put: Put, decision: Decision) -> None:
        if put.condition is not None:
            decision.puts.append((put, put.condition.operand, True))
        elif self._record_version:
            if not self._blocks_ordered(put.key, self._record_version):
                decision.puts.append((put, self._record_version, True))
        elif not self._blocks_plain(put.key, self._put_version):
            decision.puts.append((put, self._put_version, False))

    def _delete(self, delete: Delete, decision: Decision) -> None:
        condition, selection = delete.condition, delete.selection
        ordered = condition is not None or bool(self._record_version)
        version = condition.operand if condition is not None else self._record_version or self._delete_version
        found: set[bytes] = set()
        for key, known in self._view.items(selection):
            found.add(key)
            seen = visible(known, self._now_us)
            self._seen += seen
            if ordered:
                if known.version >= version:
                    continue
                stamp, kind = version, True
            elif known.ordered:
                stamp, kind = known.version, True
            elif known.version > version:
                continue
            else:
                stamp, kind = version, False
            if key not in decision.removed:
                decision.removed[key] = known
                decision.deleted_items += seen
            # A range tombstone of the same stamp speaks for the single keys too.
            if selection.keys is not None or kind is not ordered:
                self._bury(key, stamp, kind, decision)
            if selection.keys is not None and kind is not ordered:
                decision.range_tombs.append(self._one_key_tomb(key, version, ordered))
        if selection.keys is None:
            decision.range_tombs.append(RangeTomb(version, ordered, selection.start, selection.end, self._tomb_due_us))
            return
        for key in selection.keys:
            if key not in found and not self._range_blocks(key, version, ordered):
                buried = self._view.item(key)
                if buried is None or buried.ordered is ordered:
                    if buried is None or buried.version < version:
                        self._bury(key, version, ordered, decision)
                else:
                    decision.range_tombs.append(self._one_key_tomb(key, version, ordered))

    @staticmethod
    def _bury(key: bytes, version: bytes, ordered: bool, decision: Decision) -> None:
        """Leaves a tombstone, unless another delete of the mutation leaves a newer one."""
        other = decision.tombs.get(key)
        if other is None or other.version < version:
            decision.tombs[key] = Stamp(version, ordered)

    def _one_key_tomb(self, key: bytes, version: bytes, ordered: bool) -> RangeTomb:
        """A tombstone for one key where one of the other kind has the key's own place."""
        return RangeTomb(version, ordered, key, key + b"\0", self._tomb_due_us)


def merged_tombs(tombs: Iterable[RangeTomb], now_us: int) -> list[RangeTomb]:
    """``tombs`` without those that are due, or that one at least as new of the same kind covers; newest first."""
    kept: list[RangeTomb] = []
    for tomb in sorted((tomb for tomb in tombs if tomb.due_us > now_us), key=lambda one: one.version, reverse=True):
        if not any(_contains(other, tomb) for other in kept):
            kept.append(tomb)
    return kept


def _contains(outer: RangeTomb, inner: RangeTomb) -> bool:
    if outer.ordered is not inner.ordered or outer.start > inner.start:
        return False
    return outer.end is None or (inner.end is not None and inner.end <= outer.end)
