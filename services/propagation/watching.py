"""Streams of the engine's news: one root's progress, and all changes as they are accepted, those of outputs too.

Changes and outputs are told in the order of the engine's clock. A token is the place in it up to which all was told: a
number, and within a completion's outputs the resource.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from libs.errors.errors import InvalidArgument, OutOfRange
from services.propagation import messages
from services.propagation.domain import control, listing, outputs, retention
from services.propagation.domain.engine import Engine
from services.propagation.domain.errors import ChangeNotFound
from services.propagation.domain.outputs import OutputChange, Place
from services.propagation.domain.records import RootRecord, read_root
from services.propagation.domain.shard import Shard
from wellspring.propagation.v1 import propagation_pb2

INTAKE_S = 10.0
"""How long a change of a bound namespace may take from its acknowledgement by storage to here, in quiet times."""
BOUND_PREFIX = "storage/"
"""Ids of changes that come from bound namespaces begin so."""
_MARK = "wc2-"
_TOKEN_HEX = 24
_CHUNK = 200
_OUTPUTS = 1_000


async def one(engine: Engine, change_id: str, interval_s: float) -> AsyncIterator[RootRecord]:
    """The root's record at once, every interval while it moves, and at its end. Raises ChangeNotFound.

    A change of a bound namespace that has not arrived yet is waited for.
    """
    shard = engine.shard
    record = await _arrived(engine, change_id)
    while True:
        yield record
        if record.state.finished:
            return
        before = record.state
        await asyncio.sleep(interval_s)
        record = control.find_record(shard, change_id)
        if record.state is before:
            await shard.signals.progress.wait(interval_s)
            record = control.find_record(shard, change_id)


async def _arrived(engine: Engine, change_id: str) -> RootRecord:
    loop = asyncio.get_running_loop()
    end = loop.time() + (INTAKE_S if change_id.startswith(BOUND_PREFIX) else 0.0)
    while True:
        try:
            return control.find_record(engine.shard, change_id)
        except ChangeNotFound:
            left = end - loop.time()
            if left <= 0:
                raise
            await engine.shard.signals.accepted.wait(left)


async def every(
    engine: Engine, request: propagation_pb2.WatchChangesRequest
) -> AsyncIterator[propagation_pb2.WatchChangesResponse]:
    """Accepted changes from the token, the beginning or now on; a heartbeat when nothing happens."""
    shard = engine.shard
    heartbeat_s = messages.seconds(request.heartbeat_interval, "heartbeat_interval", 1.0, 60.0, 5.0)
    at = _start(engine, request)
    forgotten = _forgotten_up_to(shard, request.include_outputs)
    while True:
        if at[0] < _forgotten_up_to(shard, request.include_outputs) != forgotten:
            raise _expired()
        chunk = _next(shard, at, request.include_outputs)
        if chunk.told:
            await engine.durable()  # nothing is told that a crash could take back
            events = _events(shard, chunk)
            yield propagation_pb2.WatchChangesResponse(events=events, resume_token=_token(chunk.at))
        elif chunk.at != at:
            await asyncio.sleep(0)  # others have their turn while what nobody wants is passed over
        elif not await shard.signals.news.wait(heartbeat_s):
            now = messages.timestamp(shard.clock.time_ns())
            yield propagation_pb2.WatchChangesResponse(
                heartbeat=propagation_pb2.WatchChangesResponse.Heartbeat(time=now), resume_token=_token(at)
            )
        at = chunk.at


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Changes and outputs in order, and the place after them."""

    told: list[RootRecord | OutputChange]
    at: Place


def _next(shard: Shard, at: Place, with_outputs: bool) -> _Chunk:
    records = listing.accepted_after(shard, at[0], _CHUNK)
    newest = outputs.all_of(records[-1].sequence) if records else at
    changed: list[OutputChange] = []
    ends = [newest] if len(records) == _CHUNK else []
    if with_outputs:
        changed, reached, all_told = outputs.changed_after(shard, at, _OUTPUTS)
        newest = max(newest, reached)
        ends += [] if all_told else [reached]
    # Each list may end before the other; what lies beyond the nearer end is for the next chunk.
    end = min(ends, default=newest)
    told: list[RootRecord | OutputChange] = [
        record for record in records if record.sequence <= end[0] and not record.by_engine
    ]
    told += [one for one in changed if (one.sequence, one.resource) <= end]
    told.sort(key=lambda one: one.sequence)
    return _Chunk(told, end)


def _events(shard: Shard, chunk: _Chunk) -> list[propagation_pb2.WatchChangesResponse.Event]:
    roots: dict[int, str] = {}
    events: list[propagation_pb2.WatchChangesResponse.Event] = []
    for told in chunk.told:
        event = propagation_pb2.WatchChangesResponse.Event(sequence=told.sequence)
        if isinstance(told, RootRecord):
            event.change.CopyFrom(messages.change_message(told.change))
        else:
            if told.root not in roots:
                record = read_root(shard.store, told.root) if told.root else None
                roots[told.root] = record.change.id if record is not None else ""
            event.change.CopyFrom(messages.output_message(told, roots[told.root]))
            event.output_hash = told.hash
        events.append(event)
    return events


def _start(engine: Engine, request: propagation_pb2.WatchChangesRequest) -> Place:
    if not request.resume_token:
        return outputs.all_of(0 if request.from_beginning else engine.shard.sequence.last)
    digits = request.resume_token.removeprefix(_MARK)
    if digits == request.resume_token or len(digits) != _TOKEN_HEX or set(digits) - set("0123456789abcdef"):
        raise InvalidArgument.field("resume_token", "is not from an answer of this method", reason="PAGE_TOKEN_INVALID")
    at = int(digits[:16], 16), int(digits[16:], 16)
    if at[0] < _forgotten_up_to(engine.shard, request.include_outputs):
        raise _expired()
    return at


def _forgotten_up_to(shard: Shard, with_outputs: bool) -> int:
    changes = retention.forgotten_up_to(shard)
    return max(changes, shard.history.forgotten_up_to) if with_outputs else changes


def _expired() -> OutOfRange:
    return OutOfRange(
        "changes after this token have been forgotten: list the changes, then watch anew", reason="RESUME_TOKEN_EXPIRED"
    )


def _token(at: Place) -> str:
    return f"{_MARK}{at[0]:016x}{at[1]:08x}"
