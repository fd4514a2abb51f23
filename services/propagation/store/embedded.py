"""The store on disk: one shard's names, edges, columns and records over the embedded store (libs/embedded).

How it is laid out is in embedded_layout.py. Everything here runs in the thread of the event loop, which is also what
makes gathering and writing a commit atomic; only becoming durable is waited for.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from libs.embedded.failures import StoreUnavailable
from libs.embedded.settings import Settings
from libs.embedded.store import EmbeddedStore as Database
from libs.errors.errors import WellspringError
from services.propagation.store import embedded_write
from services.propagation.store.embedded_commit import EmbeddedCommit
from services.propagation.store.embedded_draft import Draft
from services.propagation.store.embedded_layout import FAMILIES, SCHEMA, VERSION, u32
from services.propagation.store.embedded_tables import Tables, counter
from services.propagation.store.interface import Bytes16, InputChange, Numbers, Sequences, StaleCommit
from services.propagation.store.numbers import to_numbers, to_set

MIB = 1 << 20

# Whether there is dead space worth giving back is looked at so often.
_LOOK_EVERY_S = 5.0
_RETRY_S = 60.0
_LITTER_BYTES = 4 * MIB

# pending() looks at so many resources at a time, so that its memory does not grow with the set.
_PAGE = 1 << 20
# Compaction ends its turn when it rewrote this many times the edges that it was asked to fold.
_REWRITES = 8
_PATIENCE_S = 0.004
"""Bulk waits so long for its sync: about as long as a piece of it and the rest after it take."""
_UNAWAITED_PATIENCE_S = 0.02
"""What is not waited for by itself mostly comes with what is: a call writes its last part some milliseconds later."""
_FOLDING_PATIENCE_S = 0.1
"""Nobody waits for what is folded."""


class EmbeddedStore:
    """See `interface.Store`."""

    def __init__(self, database: Database, cache_bytes: int) -> None:
        """Use `open`."""
        self._database = database
        self._closed = False
        self.epoch = counter(database.family("meta"), b"epoch") + 1
        batch = database.batch()
        batch.put(database.family("meta"), b"epoch", u32(self.epoch))
        database.write_through(batch)
        self._tables = Tables(database, self.epoch, cache_bytes)

    @classmethod
    def open(
        cls, path: str | Path, *, settings: Settings | None = None, cache_bytes: int = 16 * MIB
    ) -> "EmbeddedStore":
        """Opens or creates the data directory `path` and raises its epoch, durably. Blocks while a crash is mended.

        `settings` tune the database; `cache_bytes` bound the names and inputs kept in memory besides. Raises what
        `libs.embedded.store.EmbeddedStore.open` raises.
        """
        database = Database.open(path, schema=SCHEMA, version=VERSION, families=FAMILIES, settings=settings)
        try:
            return cls(database, cache_bytes)
        except BaseException:
            database.close()
            raise

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def database(self) -> Database:
        """What lies below: for sizes, readiness and checkpoints."""
        return self._database

    def begin(self) -> EmbeddedCommit:
        """See `interface.Store.begin`."""
        return EmbeddedCommit(self._tables)

    def write(self, commit: EmbeddedCommit) -> Awaitable[None]:
        """See `interface.Store.write`."""
        self._check_open()
        if commit.used:
            raise ValueError("this commit was written before; begin a new one")
        if commit.edges_seen not in (None, self._tables.edge_commits):
            raise StaleCommit("edges were written since this commit began to gather its own")
        while self._tables.recent.overdue:
            self._spill()
        draft = Draft()
        effects = embedded_write.draft_commit(self._tables, commit, draft)
        bulk_s = _PATIENCE_S if commit.awaited else _UNAWAITED_PATIENCE_S
        durable = self._submit(draft, bulk_s if commit.patient else 0.0)
        commit.used = True
        embedded_write.applied(self._tables, commit, effects)
        return durable

    def compact(self, budget_items: int) -> int:
        """See `interface.Store.compact`. Raises as `write` does."""
        self._check_open()
        tables = self._tables
        tables.compaction.sweep()
        folded = rewritten = 0
        due = self.needs_compaction
        while folded < budget_items and rewritten < _REWRITES * budget_items:
            if due and not self.needs_compaction:
                break
            if tables.recent.edges and (tables.recent.due or not tables.compaction.due):
                folded += self._spill()
                continue
            if (key := tables.compaction.take()) is None:
                break
            draft = Draft()
            arrived, left = tables.compaction.fold(draft, key, tables.next_commit())
            self._submit(draft, _FOLDING_PATIENCE_S)
            folded += arrived
            rewritten += left
        return folded

    def _spill(self) -> int:
        """Spills a slice of what came lately; answers how many edges."""
        tables, draft = self._tables, Draft()
        arrived, bound = tables.recent.slice(draft, tables.next_commit())
        self._submit(draft, _FOLDING_PATIENCE_S)
        tables.recent.sliced(bound)
        for key, edges in arrived:
            tables.compaction.note(key, edges)
        return max(1, sum(edges for _, edges in arrived))

    @property
    def needs_compaction(self) -> bool:
        """See `interface.Store.needs_compaction`."""
        return self._tables.recent.due or self._tables.compaction.due

    async def tidy(self) -> None:
        """For ever: once all that arrived is folded, gives back the space on disk that it took."""
        arrived = self._database.family("arrivals")
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            tables = self._tables
            if tables.recent.edges or tables.compaction.waits or arrived.size().disk_bytes < _LITTER_BYTES:
                continue
            try:
                await self._database.compact("arrivals")
            except WellspringError:
                # A disk that is full or fails is told by the next write, and by readiness.
                await asyncio.sleep(_RETRY_S)

    async def close(self) -> None:
        """Makes everything durable and gives the directory back."""
        self._closed = True
        self._database.close()

    # -- names --------------------------------------------------------------------------------------------------------

    @property
    def views(self) -> dict[str, int]:
        """See `interface.Store.views`."""
        return self._tables.views.written

    def find_resources(self, names: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """See `interface.Store.find_resources`."""
        return self._tables.names.find(names)

    def find_input(self, resource: int, aspect: str) -> int:
        """See `interface.Store.find_input`."""
        return self._tables.inputs.find(int(resource), aspect)

    def resource_names(self, resources: Numbers) -> list[bytes]:
        """See `interface.Store.resource_names`."""
        return self._tables.names.of(resources)

    def packed_names(self, resources: Numbers) -> bytes:
        """See `interface.Store.packed_names`."""
        return self._tables.names.packed(resources)

    def input_parts(self, inputs: Numbers) -> list[tuple[int, str]]:
        """See `interface.Store.input_parts`."""
        return self._tables.inputs.parts(inputs)

    def inputs_of_resource(self, resource: int) -> list[tuple[int, str]]:
        """See `interface.Store.inputs_of_resource`."""
        return self._tables.inputs.of_resource(int(resource))

    @property
    def resource_count(self) -> int:
        """See `interface.Store.resource_count`."""
        return self._tables.names.count

    @property
    def edge_count(self) -> int:
        """See `interface.Store.edge_count`."""
        return self._tables.edge_count

    # -- edges --------------------------------------------------------------------------------------------------------

    def dependents(self, input_number: int) -> dict[int, BitMap]:
        """See `interface.Store.dependents`."""
        return self._tables.reverse.dependents(int(input_number))

    def dependents_of(self, inputs: Numbers) -> dict[int, BitMap]:
        """See `interface.Store.dependents_of`."""
        return self._tables.reverse.dependents_of(inputs, self._tables.views.written.values())

    def dependents_each(self, inputs: Numbers) -> list[dict[int, BitMap]]:
        """See `interface.Store.dependents_each`."""
        return self._tables.reverse.dependents_each(inputs, self._tables.views.written.values())

    def count_dependents(self, input_number: int) -> dict[int, int]:
        """See `interface.Store.count_dependents`."""
        return {view: len(members) for view, members in self.dependents(input_number).items()}

    def dependencies(self, view: int, resources: Numbers) -> tuple[Numbers, Numbers]:
        """See `interface.Store.dependencies`."""
        return self._tables.forward.read(view, resources)

    def outputs_with_dependents(self, view: int) -> BitMap:
        """See `interface.Store.outputs_with_dependents`."""
        return self._tables.outputs.with_dependents(view)

    def output_inputs(self, view: int, resources: Numbers) -> Numbers:
        """See `interface.Store.output_inputs`."""
        return self._tables.outputs.inputs(view, resources)

    # -- columns ------------------------------------------------------------------------------------------------------

    def rendered_at(self, view: int, resources: Numbers) -> Sequences:
        """See `interface.Store.rendered_at`."""
        return self._tables.columns(view).rendered_at.gather(resources)

    def output_changed_at(self, view: int, resources: Numbers) -> Sequences:
        """See `interface.Store.output_changed_at`."""
        return self._tables.columns(view).output_changed_at.gather(resources)

    def hashes(self, view: int, resources: Numbers) -> Bytes16:
        """See `interface.Store.hashes`."""
        return self._tables.columns(view).hashes.gather(resources)

    def pending(self, view: int, resources: BitMap, changed_at: int) -> BitMap:
        """See `interface.Store.pending`."""
        column = self._tables.columns(view).rendered_at
        found = BitMap()
        last = resources.max() if resources else -1
        for first in range(0, last + 1, _PAGE):
            numbers = to_numbers(resources & BitMap(range(first, first + _PAGE)))
            found |= to_set(numbers[column.gather(numbers) < np.uint64(changed_at)])
        return found

    def input_changes(self, inputs: Iterable[int]) -> dict[int, InputChange]:
        """See `interface.Store.input_changes`."""
        return self._tables.inputs.changes(inputs)

    # -- records ------------------------------------------------------------------------------------------------------

    def get_record(self, kind: str, key: bytes) -> bytes | None:
        """See `interface.Store.get_record`."""
        return self._tables.records.get(kind, key)

    def records(
        self,
        kind: str,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        """See `interface.Store.records`."""
        return self._tables.records.scan(kind, start, end, reverse, limit)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed: the service is stopping")

    def _submit(self, draft: Draft, patience_s: float) -> Awaitable[None]:
        asyncio.get_running_loop()  # without one the batch would be applied and the answer lost
        batch = self._database.batch()
        draft.fill(batch)
        return self._database.submit(batch, patience_s)
