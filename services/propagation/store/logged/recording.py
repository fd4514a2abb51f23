"""A commit that keeps what it is told, packed, while the store below gathers it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.propagation.store.interface import Bytes16, EdgeDelta, InputChange, Numbers
from services.propagation.store.logged import packed_commit
from services.propagation.store.numbered import NumberedCommit


class LoggedCommit:
    """See `interface.Commit`."""

    def __init__(self, below: NumberedCommit) -> None:
        self.below = below
        self._calls: list[bytes] = []
        self.intern_views = below.intern_views
        self.intern_resources = below.intern_resources
        self.intern_inputs = below.intern_inputs
        self.intern_named_inputs = below.intern_named_inputs

    @property
    def patient(self) -> bool:
        """See `interface.Commit`."""
        return self.below.patient

    @patient.setter
    def patient(self, patient: bool) -> None:
        self.below.patient = patient

    @property
    def awaited(self) -> bool:
        """See `interface.Commit`."""
        return self.below.awaited

    @awaited.setter
    def awaited(self, awaited: bool) -> None:
        self.below.awaited = awaited

    @property
    def empty(self) -> bool:
        """See `interface.Commit.empty`."""
        return self.below.empty

    def packed(self) -> bytes:
        """All of it, as `packed_commit.replay` takes it."""
        return packed_commit.pack(self.below.numbered(), self._calls)

    def replace_dependencies(self, view: int, dependents: Numbers, counts: Numbers, inputs: Numbers) -> EdgeDelta:
        """See `interface.Commit.replace_dependencies`."""
        change = self.below.replace_dependencies(view, dependents, counts, inputs)
        self._calls.append(packed_commit.pack_dependencies(view, dependents, counts, inputs, remove=None))
        return change

    def change_dependencies(
        self, view: int, dependents: Numbers, counts: Numbers, inputs: Numbers, *, remove: bool
    ) -> EdgeDelta:
        """See `interface.Commit.change_dependencies`."""
        change = self.below.change_dependencies(view, dependents, counts, inputs, remove=remove)
        self._calls.append(packed_commit.pack_dependencies(view, dependents, counts, inputs, remove=remove))
        return change

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
        self.below.complete(view, resources, sequence, hashes, changed, changed_at)
        self._calls.append(packed_commit.pack_complete(view, resources, sequence, hashes, changed, changed_at))

    def change_inputs(self, inputs: Numbers, change: InputChange) -> None:
        """See `interface.Commit.change_inputs`."""
        self.below.change_inputs(inputs, change)
        self._calls.append(packed_commit.pack_change(inputs, change))

    def change_each(self, inputs: Numbers, changes: Sequence[InputChange]) -> None:
        """See `interface.Commit.change_each`."""
        self.below.change_each(inputs, changes)
        self._calls.append(packed_commit.pack_changes(inputs, changes))

    def put_record(self, kind: str, key: bytes, value: bytes) -> None:
        """See `interface.Commit.put_record`."""
        self.below.put_record(kind, key, value)
        self._calls.append(packed_commit.pack_put(kind, key, value))

    def delete_record(self, kind: str, key: bytes) -> None:
        """Removes a record, whether it is there or not."""
        self.below.delete_record(kind, key)
        self._calls.append(packed_commit.pack_delete(kind, key))

    def delete_records(self, kind: str, prefix: bytes) -> None:
        """Removes the records whose keys begin with `prefix`."""
        self.below.delete_records(kind, prefix)
        self._calls.append(packed_commit.pack_delete_prefix(kind, prefix))
