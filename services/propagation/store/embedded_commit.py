"""A commit on the embedded store: what was gathered, in the form in which `embedded_write` puts it to disk.

Numbers are given and edges compared while gathering; everything that only overwrites is kept as it came.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from services.propagation.store import edges, outputs
from services.propagation.store.edges import Keys, pair, unpair
from services.propagation.store.embedded_draft import Draft
from services.propagation.store.embedded_forward import ForwardDraft
from services.propagation.store.embedded_inputs import CONTENT
from services.propagation.store.embedded_tables import Tables
from services.propagation.store.interface import Bytes16, EdgeDelta, InputChange, Numbers
from services.propagation.store.numbered import InputNumbers, Numbered

Step = Callable[[Draft], None]


@dataclass(slots=True)
class Toggles:
    """Edges (input << 32 | dependent) that came and went in one view, call by call."""

    added: list[Keys] = field(default_factory=list)
    removed: list[Keys] = field(default_factory=list)


class EmbeddedCommit:
    """See `interface.Commit`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.used = False
        self.patient = False
        self.awaited = True
        self.edges_seen: int | None = None
        self.views: dict[str, int] = {}
        self.names: dict[bytes, int] = {}
        self.inputs: dict[int, int] = {}
        # Inputs that the cache of names does not know: it learns them when they are written, and not before, because
        # every commit that names an input which is not written yet has to bring it.
        self.named: dict[bytes, int] = {}
        self.forward = ForwardDraft(tables.forward)
        self.toggles: dict[int, Toggles] = {}
        self.steps: list[Step] = []

    @property
    def empty(self) -> bool:
        """See `interface.Commit.empty`."""
        return not (self.views or self.names or self.inputs or self.named or self.toggles or self.steps)

    def intern_views(self, names: Sequence[str]) -> list[int]:
        """See `interface.Commit.intern_views`."""
        numbers = self._tables.views.intern([outputs.check_view(name) for name in names])
        written = self._tables.views.written
        self.views.update({n: number for n, number in zip(names, numbers, strict=True) if n not in written})
        return numbers

    def intern_resources(self, names: Sequence[bytes]) -> Numbers:
        """See `interface.Commit.intern_resources`."""
        numbers, fresh = self._tables.names.intern(names)
        sources = outputs.with_sources(list(fresh))[len(fresh) :]
        if sources:
            fresh.update(self._tables.names.intern(sources)[1])
        self.names.update(fresh)
        return numbers

    def intern_inputs(self, resources: Numbers, aspects: Sequence[str] | str) -> Numbers:
        """See `interface.Commit.intern_inputs`."""
        edges.check_known(resources, self._tables.names.next, "resource")
        numbers, fresh = self._tables.inputs.intern(resources, aspects, self._tables.names.count)
        self.inputs.update(fresh)
        return numbers

    def intern_named_inputs(self, names: Sequence[bytes], aspects: Sequence[str] | str) -> Numbers:
        """See `interface.Commit.intern_named_inputs`."""
        if aspects != CONTENT:
            return self.intern_inputs(self.intern_resources(names), aspects)
        named = self._tables.inputs.named
        found = named.find(names)
        missing = np.flatnonzero(found < 0)
        if len(missing):
            new = [names[at] for at in missing.tolist()]
            numbers = self.intern_inputs(self.intern_resources(new), CONTENT)
            found[missing] = numbers
            self.named.update(zip(new, numbers.tolist(), strict=True))
        return found.astype(np.uint32)

    def numbered(self) -> Numbered:
        """See `numbered.NumberedCommit.numbered`."""
        tables = self._tables
        resources, codes = unpair(np.fromiter(self.inputs, np.uint64, len(self.inputs)))
        distinct = np.flatnonzero(np.bincount(codes)) if len(codes) else np.empty(0, np.int64)
        which = np.searchsorted(distinct, codes).astype(np.uint32)
        numbers = np.fromiter(self.inputs.values(), np.uint32, len(self.inputs))
        inputs = InputNumbers(numbers, resources, which, tables.inputs.aspects(distinct))
        return Numbered(self.views, self.names, inputs, tables.names.next, tables.inputs.next)

    def renumber(self, given: Numbered) -> None:
        """See `numbered.NumberedCommit.renumber`."""
        tables, inputs = self._tables, given.inputs
        tables.views.give(given.views)
        tables.names.give(given.names, given.next_resource)
        self.views, self.names = dict(given.views), dict(given.names)
        codes = tables.inputs.codes(inputs.aspects)[inputs.which]
        self.inputs = dict(zip(pair(inputs.resources, codes).tolist(), inputs.numbers.tolist(), strict=True))
        tables.inputs.give(self.inputs, given.next_input)

    def replace_dependencies(self, view: int, dependents: Numbers, counts: Numbers, inputs: Numbers) -> EdgeDelta:
        """See `interface.Commit.replace_dependencies`."""
        return self._change(view, dependents, counts, inputs, None)

    def change_dependencies(
        self, view: int, dependents: Numbers, counts: Numbers, inputs: Numbers, *, remove: bool
    ) -> EdgeDelta:
        """See `interface.Commit.change_dependencies`."""
        return self._change(view, dependents, counts, inputs, remove)

    def complete(
        self,
        view: int,
        resources: Numbers,
        sequence: int,
        hashes: Bytes16,
        changed: npt.NDArray[np.bool_],
        changed_at: int,
    ) -> None:
        """See `interface.Commit.complete`."""
        edges.check_known(resources, self._tables.names.next, "resource")
        self._tables.views.check(view)
        if not len(resources) == len(hashes) == len(changed):
            raise ValueError(f"{len(resources)} resources have {len(hashes)} hashes and {len(changed)} marks of change")
        columns = self._tables.columns(view)
        self._keep(columns.rendered_at.scatter, resources.copy(), np.uint64(sequence))
        self._keep(columns.hashes.scatter, resources.copy(), hashes.copy())
        self._keep(columns.output_changed_at.scatter, resources[changed], np.uint64(changed_at))

    def change_inputs(self, inputs: Numbers, change: InputChange) -> None:
        """See `interface.Commit.change_inputs`."""
        edges.check_known(inputs, self._tables.inputs.next, "input")
        if len(change.version) != 16:
            raise ValueError(f"a version has 16 bytes, not {len(change.version)}")
        self._keep(self._tables.inputs.draft_change, inputs.copy(), change)

    def change_each(self, inputs: Numbers, changes: Sequence[InputChange]) -> None:
        """See `interface.Commit.change_each`."""
        edges.check_known(inputs, self._tables.inputs.next, "input")
        self._keep(self._tables.inputs.draft_changes, inputs.copy(), list(changes))

    def put_record(self, kind: str, key: bytes, value: bytes) -> None:
        """See `interface.Commit.put_record`."""
        self._keep(self._tables.records.draft_put, kind, key, value)

    def delete_record(self, kind: str, key: bytes) -> None:
        """Removes a record, whether it is there or not."""
        self._keep(self._tables.records.draft_delete, kind, key)

    def delete_records(self, kind: str, prefix: bytes) -> None:
        """Removes the records whose keys begin with `prefix`."""
        self._keep(self._tables.records.draft_delete_prefix, kind, prefix)

    def _change(
        self, view: int, dependents: Numbers, counts: Numbers, inputs: Numbers, remove: bool | None
    ) -> EdgeDelta:
        tables = self._tables
        tables.views.check(view)
        edges.check(dependents, counts, inputs, tables.names.next, tables.inputs.next)
        if self.edges_seen is None:
            self.edges_seen = tables.edge_commits
        change = self.forward.change(view, dependents, counts, inputs, remove)
        toggles = self.toggles.setdefault(view, Toggles())
        toggles.added.append(pair(change.added_inputs, change.added_dependents))
        toggles.removed.append(pair(change.removed_inputs, change.removed_dependents))
        return change

    def _keep(self, step: Callable[..., None], *arguments: Any) -> None:
        self.steps.append(lambda draft: step(draft, *arguments))
