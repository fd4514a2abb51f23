"""What is kept of a root: its record, its tally and the fan-outs that a restart repeats.

Kinds of records, all keyed by the root's sequence (8 bytes, so that key order is the order of acceptance):

* `root`: the change and the root's state, rewritten when the state changes;
* `tally`: counters, rewritten with each commit that moves them;
* `active`: an empty mark while the root is unfinished, so that a restart finds it;
* `fanout`: keyed by (root, a sequence of its own), inputs that changed under the root, when, and at which causal level
  their dependents are. From it, the edges and the `rendered_at` columns follow the root's pending sets;
* `gone`: of a root that takes pages which are gone at their home, as of which versions (gone.py), while it is
  unfinished or has dead letters.

`change` maps a change's id to (sequence, digest), for the window of remembrance.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from struct import Struct
from typing import Any

import numpy as np

from services.propagation.domain.change import Change, dump, load
from services.propagation.domain.sequence import decode, encode
from services.propagation.store.interface import Commit, Numbers, Store

ROOT = "root"
TALLY = "tally"
ACTIVE = "active"
FANOUT = "fanout"
GONE = "gone"
CHANGE_ID = "change"

EVERY_VIEW = 0xFFFF
LATE_PREFIX = "late/"
"""Ids of roots for edges that came late, for replays and the like begin so; a sequence follows."""
_TALLY = Struct(">QQQQQHd")
_FANOUT = Struct(">QHHB")


class State(IntEnum):
    """A root's state, with the contract's numbers."""

    ACTIVE = 1
    PAUSED = 2
    DONE = 3
    CANCELLED = 4
    DONE_WITH_FAILURES = 5

    @property
    def finished(self) -> bool:
        """Whether nothing more is leased for the root, ever."""
        return self not in (State.ACTIVE, State.PAUSED)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counters of a root. `done` of `total` are rendered since; `changed` and `unchanged` by the root's own leases."""

    total: int = 0
    done: int = 0
    changed: int = 0
    unchanged: int = 0
    failed: int = 0
    levels: int = 1
    seconds: float = 0.0

    def pack(self) -> bytes:
        """The record's value."""
        return _TALLY.pack(self.total, self.done, self.changed, self.unchanged, self.failed, self.levels, self.seconds)

    @classmethod
    def unpack(cls, value: bytes) -> "Tally":
        """Of a record's value."""
        return cls(*_TALLY.unpack(value))


@dataclass(frozen=True, slots=True)
class RootRecord:
    """The durable face of a root. `begun` is false for a change that was older than what was known: it began none.

    `inputs` are the input numbers that the change touched. With `publish_unchanged` its renders are stored and purged
    even if their bytes are those of the last accepted ones. Times are wall-clock nanoseconds, 0 for not yet.
    """

    sequence: int
    change: Change
    inputs: tuple[int, ...]
    state: State
    lane: str
    weight: int
    revision: int
    accepted_ns: int
    finished_ns: int = 0
    superseded_by: str = ""
    left: int = 0
    reason: str = ""
    begun: bool = True
    publish_unchanged: bool = False

    @property
    def by_engine(self) -> bool:
        """Whether the engine made the root itself, without a change that somebody accepted."""
        change_id = self.change.id
        # One that was made before its shard was divided has a shard's number in its id.
        named = change_id.startswith(LATE_PREFIX) and change_id.endswith(f"/{self.sequence:x}")
        return self.change.resource == "" or named

    def pack(self) -> bytes:
        """The record's value."""
        plain: dict[str, Any] = {
            "change": self.change.to_json(),
            "inputs": list(self.inputs),
            "state": int(self.state),
            "lane": self.lane,
            "weight": self.weight,
            "revision": self.revision,
            "accepted_ns": self.accepted_ns,
            "finished_ns": self.finished_ns,
            "superseded_by": self.superseded_by,
            "left": self.left,
            "reason": self.reason,
            "begun": self.begun,
            "publish_unchanged": self.publish_unchanged,
        }
        return dump(plain)

    @classmethod
    def unpack(cls, key: bytes, value: bytes) -> "RootRecord":
        """Of a record."""
        plain = load(value)
        plain["change"] = Change.from_json(plain["change"])
        plain["inputs"] = tuple(plain["inputs"])
        plain["state"] = State(plain["state"])
        return cls(sequence=decode(key), **plain)

    def put(self, commit: Commit) -> None:
        """Writes the record, and the mark of an unfinished root."""
        key = encode(self.sequence)
        commit.put_record(ROOT, key, self.pack())
        if self.state.finished:
            commit.delete_record(ACTIVE, key)
            commit.delete_records(FANOUT, key)
            if self.publish_unchanged and self.state is not State.DONE_WITH_FAILURES:
                commit.delete_record(GONE, key)
        else:
            commit.put_record(ACTIVE, key, b"")

    def finish(self, state: State, now_ns: int, left: int = 0) -> "RootRecord":
        """The record of the finished root."""
        return replace(self, state=state, finished_ns=now_ns, left=left)


@dataclass(frozen=True, slots=True)
class Fanout:
    """Inputs that changed at `changed_at` under `root`. Their dependents are at `level`, in `view` or EVERY_VIEW.

    `own` says that the views which render the root's resource itself are meant as well. With `listed`, `inputs` are
    not inputs but the very items of `view` that are wanted; with `whole`, all that `view` ever rendered is. `noted_at`
    is a sequence that no other fan-out has.
    """

    root: int
    noted_at: int
    changed_at: int
    level: int
    view: int
    own: bool
    inputs: Numbers
    listed: bool = False
    whole: bool = False

    def put(self, commit: Commit) -> None:
        """Writes the record."""
        head = _FANOUT.pack(self.changed_at, self.level, self.view, self.own | self.listed << 1 | self.whole << 2)
        inputs = np.ascontiguousarray(self.inputs, "<u4").tobytes()
        commit.put_record(FANOUT, encode(self.root) + encode(self.noted_at), head + inputs)

    @classmethod
    def unpack(cls, key: bytes, value: bytes) -> "Fanout":
        """Of a record."""
        changed_at, level, view, flags = _FANOUT.unpack_from(value)
        inputs = np.frombuffer(value, "<u4", offset=_FANOUT.size)
        own, listed, whole = (bool(flags & bit) for bit in (1, 2, 4))
        return cls(decode(key), decode(key[8:]), changed_at, level, view, own, inputs, listed, whole)

    @classmethod
    def of(cls, store: Store, root: int) -> Iterator["Fanout"]:
        """The root's fan-outs, oldest first."""
        for key, value in store.records(FANOUT, start=encode(root), end=encode(root + 1)):
            yield cls.unpack(key, value)

    @classmethod
    def read(cls, store: Store, root: int, noted_at: int) -> "Fanout | None":
        """One of them."""
        key = encode(root) + encode(noted_at)
        value = store.get_record(FANOUT, key)
        return cls.unpack(key, value) if value is not None else None


def put_change_id(commit: Commit, change: Change, sequence: int) -> None:
    """Remembers that the change was accepted."""
    put_id(commit, change.id, sequence, change.digest())


def put_id(commit: Commit, change_id: str, sequence: int, digest: bytes) -> None:
    """Remembers whose the id is; `digest` tells what was asked for from anything else."""
    commit.put_record(CHANGE_ID, change_id.encode(), encode(sequence) + digest)


def find_change_id(store: Store, change_id: str) -> tuple[int, bytes] | None:
    """(sequence, digest) of an accepted change, None when it is not remembered."""
    value = store.get_record(CHANGE_ID, change_id.encode(errors="replace"))
    return (decode(value), value[8:]) if value is not None else None


def read_root(store: Store, sequence: int) -> RootRecord | None:
    """The record of a root or of a change that began none."""
    key = encode(sequence)
    value = store.get_record(ROOT, key)
    return RootRecord.unpack(key, value) if value is not None else None


def read_tally(store: Store, sequence: int) -> Tally:
    """The root's last counters."""
    value = store.get_record(TALLY, encode(sequence))
    return Tally.unpack(value) if value is not None else Tally()
