"""A store whose commits are records of a log: applied to the store below at once, durable when the log has them.

The store below is a copy that the log makes again: what it has and the log has not was never acknowledged to anybody.
"""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from libs.embedded.failures import StoreUnavailable
from libs.errors.errors import Unavailable
from services.propagation.store.interface import Store
from services.propagation.store.logged.log import CommitLog
from services.propagation.store.logged.place import Place, put_place
from services.propagation.store.logged.recording import LoggedCommit
from services.propagation.store.logged.records import Position, commit_records
from services.propagation.store.numbered import NumberedCommit


class LogEnded(Unavailable):
    """Nothing is written behind the last commit of a log."""

    default_reason = "SHARD_LOST"


class NumberedStore(Store, Protocol):
    """A store whose commits can be numbered from elsewhere."""

    def begin(self) -> NumberedCommit:
        """See `interface.Store.begin`."""


class LoggedStore:
    """See `interface.Store`. `position` is that of the owner: its epoch, and the last commit that `below` has."""

    def __init__(self, below: NumberedStore, log: CommitLog, position: Position) -> None:
        self._below = below
        self._log = log
        self._number = position.number
        self._closed = False
        self._ended = False
        self.epoch = position.epoch
        self.compact = below.compact
        self.find_resources = below.find_resources
        self.find_input = below.find_input
        self.resource_names = below.resource_names
        self.packed_names = below.packed_names
        self.input_parts = below.input_parts
        self.inputs_of_resource = below.inputs_of_resource
        self.dependents = below.dependents
        self.dependents_of = below.dependents_of
        self.dependents_each = below.dependents_each
        self.count_dependents = below.count_dependents
        self.dependencies = below.dependencies
        self.outputs_with_dependents = below.outputs_with_dependents
        self.output_inputs = below.output_inputs
        self.rendered_at = below.rendered_at
        self.output_changed_at = below.output_changed_at
        self.hashes = below.hashes
        self.pending = below.pending
        self.input_changes = below.input_changes
        self.get_record = below.get_record
        self.records = below.records

    @property
    def position(self) -> Position:
        """Behind the last commit that was applied."""
        return Position(self.epoch, self._number)

    @property
    def needs_compaction(self) -> bool:
        """See `interface.Store.needs_compaction`."""
        return self._below.needs_compaction

    @property
    def views(self) -> dict[str, int]:
        """See `interface.Store.views`."""
        return self._below.views

    @property
    def resource_count(self) -> int:
        """See `interface.Store.resource_count`."""
        return self._below.resource_count

    @property
    def edge_count(self) -> int:
        """See `interface.Store.edge_count`."""
        return self._below.edge_count

    def begin(self) -> LoggedCommit:
        """See `interface.Store.begin`."""
        return LoggedCommit(self._below.begin())

    def check(self) -> None:
        """Raises why it takes nothing more: what the log's `check` raises, and LogEnded."""
        if self._ended:
            raise LogEnded("this shard's log has ended: it goes on as several shards")
        self._log.check(0)

    def end(self, commit: LoggedCommit) -> Awaitable[None]:
        """As `write`, of the last commit: each later one is refused."""
        written = self.write(commit)
        self._ended = True
        return written

    def write(self, commit: LoggedCommit) -> Awaitable[None]:
        """See `interface.Store.write`. Raises what the log's `check` raises, too: nothing is applied then."""
        if self._closed:
            raise StoreUnavailable("the store is closed: the service is stopping")
        self.check()
        asyncio.get_running_loop()  # without one it would be applied and not logged
        if commit.empty:
            self._below.write(commit.below)
            return self._log.barrier()
        position = Position(self.epoch, self._number + 1)
        packed = commit.packed()
        self._log.check(len(packed))
        records = commit_records(position, packed)
        put_place(commit.below, Place(position, self._log.anchor))
        # Nobody waits for this disk.
        commit.below.patient = True
        self._below.write(commit.below)
        self._number = position.number
        return self._log.append(position, records)

    async def close(self) -> None:
        """Ends the log, then the store below."""
        self._closed = True
        try:
            await self._log.close()
        finally:
            await self._below.close()
