"""Long-running operations: begun durably, done in the background, begun again after a crash, cancelled, listed.

An operation is a document of the store (``record.py``) and a job by its kind. A job can be run again from its beginning
at any moment, and undone; so a server that starts runs again what was running, three times at most. Where servers share
a store, each says every few seconds that it runs what it owns; what nobody spoke of for 30 s is taken over, and an
owner that finds it taken leaves it alone.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from google.protobuf.message import Message

from libs.clock.clock import Clock
from libs.errors.errors import Internal, WellspringError
from libs.rpc.errors import to_status, unknown_failure
from libs.telemetry.logs import fields
from services.storage.answers import timestamp
from services.storage.domain.errors import OperationNotFound, OperationsExhausted
from services.storage.operations.record import CANCELLED, FAILED, RUNNING, SUCCEEDED, Record, decode, encode
from services.storage.store.interface import Store
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb

_log = logging.getLogger(__name__)

State: TypeAlias = admin_pb.Operation.State.ValueType

KEPT_US: Final = 30 * 86_400 * 1_000_000
"""After its end; the contract's."""
_KIND: Final = "operation"
_ATTEMPTS: Final = 3
_AT_ONCE: Final = 2
_MOST: Final = 100
"""Operations that run or wait."""
_TOLD_S: Final = 1.0
"""How often progress is written down."""
_AGAIN_S: Final = 5.0
"""Between attempts to write down an end that the store does not take."""
_CARE_S: Final = 10.0
_BEAT_US: Final = 5_000_000
_STALE_US: Final = 30_000_000
"""How often an owner speaks of an operation, and after what silence another takes it."""
_RESULTS: Final[dict[str, str]] = {
    "Snapshot": "snapshot",
    "Namespace": "namespace",
    "RebucketReport": "rebucket",
    "MirrorReport": "mirror",
}


class Cancelled(Exception):
    """Somebody asked for the end of the operation."""


class _Taken(Cancelled):
    """Another server runs the operation now."""


class Progress:
    """How far an operation is, told by its job."""

    def __init__(self, record: Record, me: str, note: Callable[[Record], None]) -> None:
        self._record = record
        self._me = me
        self._note = note

    @property
    def name(self) -> str:
        """The operation's name."""
        return self._record.message.name

    @property
    def started_us(self) -> int:
        """When it was begun first, microseconds: with its kind it names the operation's work."""
        return int(self._record.message.start_time.ToMicroseconds())

    def told(self, done: int, total: int = 0) -> None:
        """Notes how far it is. Raises Cancelled when it is to stop: nothing that must be kept whole is under way."""
        message = self._record.message
        message.done = done
        message.total = max(total, message.total)
        if self._record.owner != self._me:
            raise _Taken
        if self._record.cancelling:
            raise Cancelled
        self._note(self._record)


class Job(Protocol):
    """The work of one kind of operation. Both may be run again from their beginning after a crash."""

    async def run(self, arguments: Mapping[str, str], progress: Progress) -> Message:
        """Does it; answers what the operation's result is."""

    async def undo(self, arguments: Mapping[str, str], progress: Progress) -> None:
        """Removes what a run left that did not succeed."""


class Operations:
    """All operations of a store. ``run`` is background work of the server."""

    def __init__(self, store: Store, jobs: Mapping[str, Job], clock: Clock, *, shared: bool = False) -> None:
        """``jobs`` by the kind of operation; ``shared``: other servers have the same store."""
        self._shared = shared
        self._me = secrets.token_hex(8)
        self._store = store
        self._jobs = jobs
        self._clock = clock
        self._writing = asyncio.Lock()
        self._mine: dict[str, Record] = {}
        self._waiting: asyncio.Queue[Record] = asyncio.Queue(_MOST)
        self._dirty: set[str] = set()

    # What callers ask

    async def begin(self, kind: str, target: str, arguments: Mapping[str, str]) -> admin_pb.Operation:
        """A new operation, durable when this answers; or the one that runs with the same arguments. Raises
        OperationsExhausted."""
        for record in await self._running():
            if record.message.kind == kind and dict(record.arguments) == dict(arguments):
                return _shown(record)
        if len(self._mine) >= _MOST:
            raise OperationsExhausted(
                f"{_MOST} operations are under way, as many as may; wait for some of them, or cancel some",
                retry_after_s=10.0,
            )
        now_us = _now(self._clock)
        name = f"{kind}-{now_us:015x}{secrets.token_hex(4)}"
        message = admin_pb.Operation(name=name, kind=kind, target=target, state=RUNNING)
        message.start_time.CopyFrom(timestamp(now_us))
        message.update_time.CopyFrom(message.start_time)
        record = Record(message, dict(arguments), self._me)
        self._mine[name] = record
        try:
            await self._store.put_document(_KIND, name, encode(record))
        except BaseException:
            del self._mine[name]
            raise
        self._waiting.put_nowait(record)
        return _shown(record)

    async def get(self, name: str) -> admin_pb.Operation:
        """Raises OperationNotFound."""
        return _shown(await self._find(name))

    async def all(self, target: str) -> list[admin_pb.Operation]:
        """Those on ``target`` (empty: all), newest first."""
        found = [self._mine.get(name) or decode(body) for name, body in await self._store.documents(_KIND)]
        shown = [_shown(record) for record in found if not target or record.message.target == target]
        return sorted(shown, key=lambda one: (one.start_time.ToMicroseconds(), one.name), reverse=True)

    async def cancel(self, name: str) -> admin_pb.Operation:
        """Asks for its end; one that has ended stays as it is. Raises OperationNotFound."""
        record = await self._find(name)
        async with self._writing:
            theirs = record.owner != self._me and record.running
            if (theirs or name in self._mine) and not record.cancelling:
                record.cancelling = True
                await self._store.put_document(_KIND, name, encode(record))
        return _shown(record)

    async def uses(self, kind: str, key: str, value: str) -> bool:
        """Whether an operation of ``kind`` with this argument has not ended."""
        return any(one.message.kind == kind and one.arguments.get(key) == value for one in await self._running())

    async def _running(self) -> list[Record]:
        """Those that have not ended, other servers' too."""
        running = list(self._mine.values())
        if self._shared:
            found = [decode(body) for name, body in await self._store.documents(_KIND) if name not in self._mine]
            running += [record for record in found if record.running]
        return running

    # Running

    async def adopt(self) -> None:
        """Takes up what was running when the server that ran it ended, of the kinds that this one has jobs for. Call it
        before :meth:`run`."""
        for name, body in await self._store.documents(_KIND):
            record = decode(body)
            if name not in self._mine and self._orphaned(record) and len(self._mine) < _MOST:
                record.attempts += 1
                record.owner = self._me
                self._mine[name] = record
                await self._write(record)
                self._waiting.put_nowait(record)

    def _orphaned(self, record: Record) -> bool:
        """Whether an operation waits for a server to take it up: where the store is not shared, each that this one did
        not begin."""
        if not record.running or record.message.kind not in self._jobs:
            return False
        quiet_us = _now(self._clock) - record.message.update_time.ToMicroseconds()
        return quiet_us > _STALE_US if self._shared else record.owner != self._me

    async def run(self) -> None:
        """Runs operations, two at once, until it is cancelled; what runs then is taken up at the next start."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(self._work())
            tasks.create_task(self._write_progress())
            while True:
                await self._care()
                await self._clock.sleep(_CARE_S)

    async def _work(self) -> None:
        while True:
            record = await self._waiting.get()
            await self._run(record)

    async def _run(self, record: Record) -> None:
        message, job = record.message, self._jobs[record.message.kind]
        progress = Progress(record, self._me, lambda one: self._dirty.add(one.message.name))
        state: State = CANCELLED
        error: Any = None
        try:
            if record.cancelling:
                raise Cancelled
            if record.attempts > _ATTEMPTS:
                raise Internal(
                    f"the operation was interrupted {_ATTEMPTS} times: the server ended while it ran",
                    reason="OPERATION_INTERRUPTED",
                )
            result = await job.run(record.arguments, progress)
            _set_result(message, result)
            state = SUCCEEDED
        except _Taken:
            self._mine.pop(message.name, None)
            _log.warning("operation taken over by another server", extra=fields(operation=message.name))
            return
        except Cancelled:
            _log.info("operation cancelled", extra=fields(operation=message.name))
        except WellspringError as failed:
            state, error = FAILED, to_status(failed)
            _log.warning("operation failed", extra=fields(operation=message.name, reason=failed.reason))
        except Exception as failed:
            failure, incident = unknown_failure()
            state = FAILED
            error = to_status(Internal(failure.message, metadata={"incident": incident}))
            _log.error("operation failed", extra=fields(operation=message.name, incident=incident), exc_info=failed)
        await self._end(record, job, progress, state, error)

    async def _end(self, record: Record, job: Job, progress: Progress, state: State, error: Any) -> None:
        """Undoes what did not succeed, then says so; again and again while the store does not take it."""
        name = record.message.name
        while True:
            try:
                async with self._writing:
                    await self._listen(record)
                if record.owner != self._me:
                    self._mine.pop(name, None)
                    return
                if state != SUCCEEDED:
                    await self._undo(job, record, progress)
                async with self._writing:
                    ended = self._ended(record, state, error)
                    await self._store.put_document(_KIND, name, encode(ended))
                    del self._mine[name]
                return
            except WellspringError as failed:
                _log.error("operation not ended yet", extra=fields(operation=name, reason=failed.reason))
                await self._clock.sleep(_AGAIN_S)

    async def _undo(self, job: Job, record: Record, progress: Progress) -> None:
        """Undoes a run. What nobody expected is logged, and does not keep the operation from its end."""
        try:
            await job.undo(record.arguments, progress)
        except WellspringError:
            raise
        except Exception as failed:
            _log.error("operation not undone", extra=fields(operation=record.message.name), exc_info=failed)

    def _ended(self, record: Record, state: State, error: Any) -> Record:
        message = _shown(record)
        message.state = state
        if error is not None:
            message.error.CopyFrom(error)
        message.end_time.CopyFrom(timestamp(_now(self._clock)))
        message.update_time.CopyFrom(message.end_time)
        return Record(message, record.arguments, record.owner, record.attempts, record.cancelling)

    async def _write_progress(self) -> None:
        while True:
            await self._clock.sleep(_TOLD_S)
            dirty, self._dirty = self._dirty | self._quiet(), set()
            for name in sorted(dirty):
                try:
                    async with self._writing:
                        if name in self._mine and await self._listen(self._mine[name]):
                            await self._write(self._mine[name])
                except WellspringError as error:
                    _log.warning("progress not written", extra=fields(operation=name, reason=error.reason))

    def _quiet(self) -> set[str]:
        """Operations that other servers are to hear of again, though nothing new is to be told."""
        if not self._shared:
            return set()
        before_us = _now(self._clock) - _BEAT_US
        return {name for name, one in self._mine.items() if one.message.update_time.ToMicroseconds() < before_us}

    async def _listen(self, record: Record) -> bool:
        """Takes in what other servers wrote of an operation of ours: that it shall end, or that it is theirs. False:
        it is."""
        if self._shared:
            body = await self._store.document(_KIND, record.message.name)
            if body is not None:
                theirs = decode(body)
                record.owner = theirs.owner
                record.cancelling = record.cancelling or theirs.cancelling
        return record.owner == self._me

    async def _write(self, record: Record) -> None:
        record.message.update_time.CopyFrom(timestamp(_now(self._clock)))
        await self._store.put_document(_KIND, record.message.name, encode(record))

    async def _care(self) -> None:
        """Takes over what nobody runs, and forgets what ended long ago."""
        try:
            if self._shared:
                await self.adopt()
            await self._forget_old()
        except WellspringError as error:
            _log.warning("operations not looked after", extra=fields(reason=error.reason))

    async def _forget_old(self) -> None:
        before_us = _now(self._clock) - KEPT_US
        for name, body in await self._store.documents(_KIND):
            record = decode(body)
            if not record.running and record.message.end_time.ToMicroseconds() < before_us:
                await self._store.put_document(_KIND, name, None)

    async def _find(self, name: str) -> Record:
        if name in self._mine:
            return self._mine[name]
        body = await self._store.document(_KIND, name)
        if body is None:
            raise OperationNotFound(f"there is no operation {name[:80]!r}; one is kept for 30 days after its end")
        return decode(body)


def _now(clock: Clock) -> int:
    return clock.time_ns() // 1000


def _shown(record: Record) -> admin_pb.Operation:
    shown = admin_pb.Operation()
    shown.CopyFrom(record.message)
    return shown


def _set_result(message: admin_pb.Operation, result: Message) -> None:
    getattr(message, _RESULTS[result.DESCRIPTOR.name]).CopyFrom(result)
