"""Streams of the engine's news: one root's progress, and all changes as they are accepted."""

import asyncio
from collections.abc import AsyncIterator

from libs.errors.errors import InvalidArgument, OutOfRange, Unimplemented
from services.propagation import messages
from services.propagation.domain import control, listing, retention
from services.propagation.domain.engine import Engine
from services.propagation.domain.errors import ChangeNotFound
from services.propagation.domain.records import RootRecord
from wellspring.propagation.v1 import propagation_pb2

_INTAKE_S = 10.0
"""How long a change of a bound namespace may take from its acknowledgement by storage to here, in quiet times."""
BOUND_PREFIX = "storage/"
"""Ids of changes that come from bound namespaces begin so."""
_MARK = "wc1-"
_CHUNK = 200


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
    end = loop.time() + (_INTAKE_S if change_id.startswith(BOUND_PREFIX) else 0.0)
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
    if request.include_outputs:
        raise Unimplemented("changes of outputs are not in the stream yet; leave include_outputs out")
    heartbeat_s = messages.seconds(request.heartbeat_interval, "heartbeat_interval", 1.0, 60.0, 5.0)
    at = _start(engine, request)
    while True:
        records = listing.accepted_after(shard, at, _CHUNK)
        if not records:
            arrived = await shard.signals.accepted.wait(heartbeat_s)
            if not arrived:
                now = messages.timestamp(shard.clock.time_ns())
                yield propagation_pb2.WatchChangesResponse(
                    heartbeat=propagation_pb2.WatchChangesResponse.Heartbeat(time=now), resume_token=_token(at)
                )
            continue
        await engine.durable()  # nothing is told that a crash could take back
        at = records[-1].sequence
        yield propagation_pb2.WatchChangesResponse(
            events=[
                propagation_pb2.WatchChangesResponse.Event(
                    sequence=record.sequence, change=messages.change_message(record.change)
                )
                for record in records
            ],
            resume_token=_token(at),
        )


def _start(engine: Engine, request: propagation_pb2.WatchChangesRequest) -> int:
    if not request.resume_token:
        return 0 if request.from_beginning else engine.shard.sequence.last
    digits = request.resume_token.removeprefix(_MARK)
    if digits == request.resume_token or len(digits) != 16 or set(digits) - set("0123456789abcdef"):
        raise InvalidArgument.field("resume_token", "is not from an answer of this method", reason="PAGE_TOKEN_INVALID")
    at = int(digits, 16)
    if at < retention.forgotten_up_to(engine.shard):
        raise OutOfRange(
            "changes after this token have been forgotten: list the changes, then watch anew",
            reason="RESUME_TOKEN_EXPIRED",
        )
    return at


def _token(sequence: int) -> str:
    return f"{_MARK}{sequence:016x}"
