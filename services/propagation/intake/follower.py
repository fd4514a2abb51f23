"""Follows the feed of one bound namespace: its writes become changes, and the cursor is kept behind them.

At least once: the cursor is written after the changes before it, so that a crash repeats some, which their ids tell. An
event that cannot be taken now (the intake is full) is tried again; nothing is skipped but records whose names no
resource may have, and those are counted and logged.
"""

import asyncio
import logging
from collections.abc import Awaitable
from datetime import timedelta
from random import Random

from libs.errors.errors import ResourceExhausted, Unavailable
from libs.telemetry.logs import fields
from services.propagation.domain.change import Change
from services.propagation.domain.engine import Engine
from services.propagation.domain.errors import ChangeIdReused
from services.propagation.intake import mapping
from services.propagation.intake.changes import Changes
from services.propagation.intake.state import FollowerState
from wellspring.storage.v1 import storage_admin_pb2, storage_pb2
from wellspring_client.errors import ResumeTokenExpired, WellspringError
from wellspring_client.storage import Namespace

log = logging.getLogger(__name__)

CURSOR = "cursor"
_HEARTBEAT = timedelta(seconds=5)
_FIRST_BACKOFF_S = 0.2
_MOST_BACKOFF_S = 10.0
_FULL_WAIT_S = 0.5


class Follower:
    """One namespace, whose cursor `engine` keeps.

    `take_unbound` also takes writes that were made before the namespace was bound.
    """

    def __init__(
        self,
        engine: Engine,
        changes: Changes,
        namespace: Namespace,
        binding: storage_admin_pb2.Binding,
        rng: Random,
        *,
        take_unbound: bool,
    ) -> None:
        self._engine = engine
        self._changes = changes
        self._namespace = namespace
        self._binding = binding
        self._rng = rng
        self._take_unbound = take_unbound
        self._key = namespace.name.encode()
        kept = engine.shard.store.get_record(CURSOR, self._key)
        self.state = FollowerState(namespace.name, kept.decode() if kept is not None else "")

    async def run(self) -> None:
        """Follows until it is cancelled; a storage service that is away is waited for."""
        failures = 0
        while True:
            before = self.state.changes
            try:
                await self._follow()
            except ResumeTokenExpired:
                log.warning("the feed no longer reaches back to the cursor: scanning", extra=self._about())
                self.state.error = "the feed no longer reached back to the cursor; the records are scanned"
                try:
                    await self._scan()
                except WellspringError as error:
                    self._note(error)
            except WellspringError as error:
                self._note(error)
            failures = 0 if self.state.changes > before else failures + 1
            longest = min(_MOST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(failures, 10))
            await asyncio.sleep(longest * (0.5 + self._rng.random() / 2))

    def _note(self, error: WellspringError) -> None:
        self.state.error = f"{type(error).__name__}: {error}"
        log.warning("a bound namespace cannot be followed now", extra=self._about(reason=error.reason))

    async def _follow(self) -> None:
        token = self.state.resume_token
        feed = self._namespace.watch(resume_token=token, from_beginning=not token, heartbeat=_HEARTBEAT)
        async for answer in feed:
            self.state.error = ""
            durable: Awaitable[None] | None = None
            for event in answer.events:
                if event.change_id or self._take_unbound:
                    await self._take(event)
                self.state.last_event_ns = event.time.seconds * 1_000_000_000 + event.time.nanos
            await self._settle()
            if answer.resume_token and answer.resume_token != self.state.resume_token:
                durable = self._keep(answer.resume_token)
            if durable is not None:
                await durable

    async def _take(self, event: storage_pb2.ChangeEvent) -> None:
        try:
            changes = mapping.changes_of(event, self._namespace.name, self._binding)
        except mapping.Unmappable as problem:
            self._skip(problem)
            return
        for change in changes:
            await self._publish(change)

    async def _publish(self, change: Change) -> None:
        """Gives the change to the engine, as often as it takes."""
        while True:
            try:
                await self._changes.take(change)
            except ChangeIdReused:
                return  # the same write under a binding that was changed since: it was taken then
            except (Unavailable, ResourceExhausted) as error:
                self.state.error = error.message
                await asyncio.sleep(error.retry_after_s or _FULL_WAIT_S)
            else:
                self.state.changes += 1
                return

    async def _settle(self) -> None:
        """Before a cursor is written behind what was published."""
        while True:
            try:
                return await self._changes.settle()
            except (Unavailable, ResourceExhausted) as error:
                self.state.error = error.message
                await asyncio.sleep(error.retry_after_s or _FULL_WAIT_S)

    def _keep(self, token: str) -> Awaitable[None] | None:
        """Writes the cursor behind the changes before it; None while the engine takes no writes."""
        try:
            step = self._engine.shard.step()
            step.commit.put_record(CURSOR, self._key, token.encode())
            durable = step.write()
        except (Unavailable, ResourceExhausted) as error:
            self.state.error = error.message
            return None
        self.state.resume_token = token
        return durable

    async def _scan(self) -> None:
        """Takes every record as it is, then the feed from its oldest change on. A delete that nobody tells of is not
        seen; what depends on it is renewed by its next change."""
        async for answer in self._namespace.scan_pages(omit_values=True):
            for found in answer.records:
                version = mapping.newest_version(found.items)
                try:
                    if version:
                        await self._publish(
                            mapping.found_change(found.record, version, self._namespace.name, self._binding)
                        )
                except mapping.Unmappable as problem:
                    self._skip(problem)
        await self._settle()
        step = self._engine.shard.step()
        step.commit.delete_record(CURSOR, self._key)
        await step.write()
        self.state.resume_token = ""

    def _skip(self, problem: mapping.Unmappable) -> None:
        self.state.skipped += 1
        log.error("a record of a bound namespace can be no resource", extra=self._about(problem=str(problem)))

    def _about(self, **more: str) -> dict[str, object]:
        return fields(namespace=self._namespace.name, **more)
