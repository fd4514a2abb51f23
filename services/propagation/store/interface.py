"""What the engine asks of its store: numbers, edges, columns and records, committed together.

Three number spaces, each dense from 0 and never reused:

* *resource* numbers (uint32) for names;
* *input* numbers (uint32) for (resource, aspect) pairs that anything depends on or that ever changed;
* *view* numbers (uint16), given in the order in which `intern_views` first sees a name, and kept by name.

A resource called `view/<view>/<resource>`, with a view that has a number, is that view's *output* of <resource>. The
store knows outputs by their names, whichever of the two it sees first.

A number that the store never gave is a mistake of the caller: writing it, or asking for its name, raises UnknownNumber;
other reads answer what they answer for one that has nothing.

Reads are synchronous and see every write before them. A `Commit` gathers changes; `write` applies it at once, all or
nothing, and answers an awaitable that ends when it is durable. Sets of numbers are `pyroaring.BitMap`; arrays are
numpy: uint32 for numbers, uint64 for sequence numbers, and ("V16",) for versions and hashes.
"""

from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

Numbers = npt.NDArray[np.uint32]
Sequences = npt.NDArray[np.uint64]
Bytes16 = npt.NDArray[Any]  # dtype "V16"


@dataclass(frozen=True, slots=True)
class InputChange:
    """The newest change of one input: when (sequence), at which version, and the root it belongs to (its sequence)."""

    changed_at: int
    version: bytes
    root: int


@dataclass(frozen=True, slots=True)
class Held:
    """A resource of a view that is kept from leasing: a retry that is not yet due, or a dead letter.

    `due_ns` is wall-clock nanoseconds, 0 for a dead letter. `root` is the sequence of the root it was leased for.
    """

    view: int
    resource: int
    attempts: int
    due_ns: int
    root: int
    reason: str
    detail: str
    first_ns: int
    last_ns: int


class UnknownNumber(LookupError):
    """A resource, input or view number that the store never gave."""


class StaleCommit(RuntimeError):
    """Edges of another commit were written after this commit began to gather its own, so its deltas no longer hold.

    Gathering edges and writing them belong into one step of the event loop.
    """


class Commit(Protocol):
    """Changes that become true together. Nothing is visible before `Store.write`, which uses the commit up.

    A commit that is made `patient` becomes durable a few milliseconds later than it could: for bulk, so that others
    find the disk free. One that is not `awaited` either takes some more of them, unless one behind it is sooner.

    Interning is the exception: `intern_*` give numbers at once and put the new names into this commit; a commit that is
    dropped leaves a hole in the numbers, never a name twice.
    """

    patient: bool
    awaited: bool

    @property
    def empty(self) -> bool:
        """Whether nothing was gathered: interning that found all is nothing."""

    def intern_views(self, names: Sequence[str]) -> list[int]:
        """Numbers of the views, in order, new ones given. Raises ValueError for an empty name or one with a slash."""

    def intern_resources(self, names: Sequence[bytes]) -> Numbers:
        """Numbers of the names, in order, new ones given. Names are valid UTF-8 without control characters."""

    def intern_inputs(self, resources: Numbers, aspects: Sequence[str] | str) -> Numbers:
        """Numbers of the (resource, aspect) pairs; one aspect for all, or one for each."""

    def intern_named_inputs(self, names: Sequence[bytes], aspects: Sequence[str] | str) -> Numbers:
        """Numbers of the inputs that these names have: intern_inputs of intern_resources, and quicker for many."""

    def replace_dependencies(self, view: int, dependents: Numbers, counts: Numbers, inputs: Numbers) -> "EdgeDelta":
        """Dependent i now has the next counts[i] of inputs as its set. Dependents ascending, no number twice.

        Answers what it adds and removes against the sets as they are with what this commit gathered before. Raises
        ValueError when the arrays do not fit together.
        """

    def change_dependencies(
        self,
        view: int,
        dependents: Numbers,
        counts: Numbers,
        inputs: Numbers,
        *,
        remove: bool,
    ) -> "EdgeDelta":
        """As replace_dependencies, adding to the sets or removing from them."""

    def complete(
        self,
        view: int,
        resources: Numbers,
        sequence: int,
        hashes: Bytes16,
        changed: npt.NDArray[np.bool_],
        changed_at: int,
    ) -> None:
        """rendered_at = sequence and hash for all; output changed_at for those whose `changed` is true."""

    def change_inputs(self, inputs: Numbers, change: InputChange) -> None:
        """The inputs' newest change."""

    def change_each(self, inputs: Numbers, changes: Sequence[InputChange]) -> None:
        """As change_inputs, each input with a change of its own; no input twice."""

    def put_record(self, kind: str, key: bytes, value: bytes) -> None:
        """A small record of the engine (roots, change ids, cursors, views, dead letters): see `Store.records`."""

    def delete_record(self, kind: str, key: bytes) -> None: ...

    def delete_records(self, kind: str, prefix: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class EdgeDelta:
    """Edges that a commit adds and removes, as parallel arrays (dependent, input)."""

    added_dependents: Numbers
    added_inputs: Numbers
    removed_dependents: Numbers
    removed_inputs: Numbers


class Store(Protocol):
    """One shard's durable state."""

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The fencing epoch: raised by one, durably, each time the store is opened."""

    def begin(self) -> Commit: ...

    def write(self, commit: Commit) -> Awaitable[None]:
        """Applies the commit now; awaiting ends when it is durable. Needs a running event loop.

        Raises StaleCommit, StoreUnavailable, DiskFull, QueueFull (libs/embedded); nothing is applied then.
        """

    def compact(self, budget_items: int) -> int:
        """Folds arrived edges into sets, about `budget_items` of them; answers how many it moved, 0 for none left.

        Called when the engine is idle or the store says `needs_compaction`; never changes what reads answer.
        """

    @property
    def needs_compaction(self) -> bool: ...

    async def close(self) -> None: ...

    # -- names --------------------------------------------------------------------------------------------------------

    def find_resources(self, names: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """Numbers in order, -1 for names never seen."""

    def find_input(self, resource: int, aspect: str) -> int:
        """-1 when nothing depends on it and it never changed."""

    def resource_names(self, resources: Numbers) -> list[bytes]: ...

    def packed_names(self, resources: Numbers) -> bytes:
        """The names joined by NUL, resources ascending without doubles: the form that leases carry."""

    def input_parts(self, inputs: Numbers) -> list[tuple[int, str]]:
        """(resource, aspect) of each."""

    def inputs_of_resource(self, resource: int) -> list[tuple[int, str]]:
        """(input, aspect) of every input that the resource has."""

    @property
    def views(self) -> dict[str, int]:
        """Every view that ever had a number, by name. Not the caller's."""

    @property
    def resource_count(self) -> int:
        """One more than the highest resource number written; less the holes, the number of names."""

    @property
    def edge_count(self) -> int:
        """(view, dependent, input) triples."""

    # -- edges --------------------------------------------------------------------------------------------------------

    def dependents(self, input_number: int) -> dict[int, BitMap]:
        """By view: the resources that depend on the input in it. The caller owns the sets."""

    def dependents_of(self, inputs: Numbers) -> dict[int, BitMap]:
        """By view: the resources that depend on any of the inputs, in any order. The caller owns the sets.

        For many inputs at once: thousands of small sets cost milliseconds.
        """

    def dependents_each(self, inputs: Numbers) -> list[dict[int, BitMap]]:
        """As dependents, for each of many inputs, in order: a hundred cost little more than a few."""

    def count_dependents(self, input_number: int) -> dict[int, int]: ...

    def dependencies(self, view: int, resources: Numbers) -> tuple[Numbers, Numbers]:
        """(counts, inputs): resource i has the next counts[i] of inputs."""

    def outputs_with_dependents(self, view: int) -> BitMap:
        """Resources whose output in this view (its aspect "content") is now a dependency of something.

        Kept in memory; not the caller's.
        """

    def output_inputs(self, view: int, resources: Numbers) -> Numbers:
        """Input numbers (aspect "content") of the outputs of these resources, all in outputs_with_dependents."""

    # -- columns ------------------------------------------------------------------------------------------------------

    def rendered_at(self, view: int, resources: Numbers) -> Sequences:
        """0 where never rendered."""

    def output_changed_at(self, view: int, resources: Numbers) -> Sequences: ...

    def hashes(self, view: int, resources: Numbers) -> Bytes16:
        """Zero bytes where never rendered."""

    def pending(self, view: int, resources: BitMap, changed_at: int) -> BitMap:
        """Those of `resources` whose rendered_at is below changed_at; one pass over the column, for a restart."""

    def input_changes(self, inputs: Iterable[int]) -> dict[int, InputChange]:
        """Newest changes of those that ever changed."""

    # -- records ------------------------------------------------------------------------------------------------------

    def get_record(self, kind: str, key: bytes) -> bytes | None: ...

    def records(
        self,
        kind: str,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Records of a kind in key order."""
