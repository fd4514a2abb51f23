"""The two streams of reads: a namespace scanned, and its changes watched."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from typing import Final

from libs.errors.errors import InvalidArgument
from libs.rpc.call import Call
from services.storage import answers, requests, scanned
from services.storage.domain import limits
from services.storage.domain.errors import NamespaceNotFound, QuotaExceeded
from services.storage.domain.namespace import Namespace
from services.storage.registry import Registry
from services.storage.store.interface import Scan, Store
from services.storage.tokens import Tokens
from wellspring.storage.v1 import storage_pb2 as pb

_ALL: Final = (1 << 31) - 1
_RANGE: Final = struct.Struct(">HB")
_SECOND_US: Final = 1_000_000
_HEARTBEAT_US: Final = 5 * _SECOND_US
_MIN_HEARTBEAT_US: Final = _SECOND_US
_MAX_HEARTBEAT_US: Final = 60 * _SECOND_US

_Ranges = list[tuple[bytes, bytes | None]]


class Streams:
    """Scan and Watch."""

    def __init__(self, store: Store, registry: Registry, tokens: Tokens, clock_us: Callable[[], int]) -> None:
        self._store = store
        self._registry = registry
        self._tokens = tokens
        self._clock_us = clock_us

    async def scan(self, request: pb.ScanRequest, call: Call) -> AsyncIterator[bytes]:
        """One answer a page, serialised; its token names the range and the place in it."""
        ranges = requests.read_ranges(request.ranges)
        selection = requests.read_selection(request.projection, "projection")
        size = requests.bounded(
            request.batch_records, limits.DEFAULT_SCAN_RECORDS, limits.MAX_SCAN_RECORDS, "batch_records"
        )
        left = requests.bounded(request.max_records, _ALL, _ALL, "max_records")
        space = await self._admitted(request.namespace, call)
        identity = (str(space.number), _bounds(request), request.projection.SerializeToString(deterministic=True))
        index, position = _scan_place(self._tokens.open_resume(request.resume_token, "Scan", identity))
        while index < len(ranges):
            start, end = ranges[index]
            records = min(size, left)
            scan = Scan(space, start, end, position, selection, request.omit_values, records, limits.SCAN_BYTES)
            page = await self._store.scan(scan)
            position = page.position
            index += position is None
            if page.records or position is not None:
                place = _RANGE.pack(index, position is not None) + (position or b"")
                token = self._tokens.resume(place, "Scan", identity)
                yield scanned.answer(page, token, omit_values=request.omit_values)
            left -= sum(not record.partial for record in page.records)
            if not left:
                return
            await asyncio.sleep(0)
            if index < len(ranges):
                await self._admitted(request.namespace, call)
                space = self._still(space, call)

    async def watch(self, request: pb.WatchRequest, call: Call) -> AsyncIterator[pb.WatchResponse]:
        """Begins with a heartbeat, so that the caller has a token before the first change."""
        ranges = requests.read_ranges(request.ranges)
        size = requests.bounded(request.max_events, limits.DEFAULT_FEED_EVENTS, limits.MAX_FEED_EVENTS, "max_events")
        pause_s = _heartbeat_us(request) / _SECOND_US
        space = await self._admitted(request.namespace, call)
        identity = (request.namespace,)
        cursor = self._tokens.open_resume(request.resume_token, "Watch", identity)
        if cursor is None:
            cursor = await self._store.feed_start(space, from_beginning=request.from_beginning)
        else:
            await self._store.feed(space, cursor, 1)  # an expired token is told at once
        yield self._heartbeat(cursor, identity)
        said_s = asyncio.get_running_loop().time()
        while True:
            page = await self._store.feed(space, cursor, size)
            cursor = page.cursor
            events = [answers.event(one, space) for one in page.events if _within(one.record, ranges)]
            now_s = asyncio.get_running_loop().time()
            if events:
                yield pb.WatchResponse(events=events, resume_token=self._tokens.resume(cursor, "Watch", identity))
                said_s = now_s
            elif now_s - said_s >= pause_s:
                yield self._heartbeat(cursor, identity)
                said_s = now_s
            if page.more:
                await asyncio.sleep(0)
            else:
                await self._store.feed_grown(space, cursor, max(0.0, said_s + pause_s - now_s))
            space = self._still(space, call)

    def _heartbeat(self, cursor: bytes, identity: tuple[str]) -> pb.WatchResponse:
        heartbeat = pb.WatchResponse.Heartbeat(time=answers.timestamp(self._clock_us()))
        return pb.WatchResponse(heartbeat=heartbeat, resume_token=self._tokens.resume(cursor, "Watch", identity))

    async def _admitted(self, name: str, call: Call) -> Namespace:
        """The namespace, one read charged to it: a scan that is too fast for the quota is slowed, not refused."""
        while True:
            try:
                gate = self._registry.enter(name, call.identity, write=False)
            except QuotaExceeded as error:
                if not error.retry_after_s or error.retry_after_s > call.remaining_s:
                    raise
                await asyncio.sleep(error.retry_after_s)
            else:
                gate.leave()
                return gate.namespace

    def _still(self, began: Namespace, call: Call) -> Namespace:
        """The namespace as it is now. Raises when it is gone, or closed to the caller since the stream began."""
        namespace = self._registry.get(began.name)
        namespace.check_access(call.identity, write=False)
        namespace.check_ready()
        if namespace.number != began.number:
            raise NamespaceNotFound.named(began.name)
        return namespace


def _scan_place(cursor: bytes | None) -> tuple[int, bytes | None]:
    """The index of the range and the position in it."""
    if cursor is None:
        return 0, None
    index, inside = _RANGE.unpack_from(cursor)
    return index, cursor[_RANGE.size :] if inside else None


def _bounds(request: pb.ScanRequest) -> bytes:
    return b"".join(
        len(key).to_bytes(2, "big") + key for bounds in request.ranges for key in (bounds.start, bounds.end)
    )


def _within(record: bytes, ranges: _Ranges) -> bool:
    return any(start <= record and (end is None or record < end) for start, end in ranges)


def _heartbeat_us(request: pb.WatchRequest) -> int:
    if not request.HasField("heartbeat_interval"):
        return _HEARTBEAT_US
    interval_us = requests.read_duration(request.heartbeat_interval, "heartbeat_interval")
    if not _MIN_HEARTBEAT_US <= interval_us <= _MAX_HEARTBEAT_US:
        raise InvalidArgument.field("heartbeat_interval", "1 s to 60 s are allowed")
    return interval_us
