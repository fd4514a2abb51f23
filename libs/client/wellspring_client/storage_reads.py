"""Reading a namespace: items, pages, many records, scans, the change feed."""

import datetime
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from wellspring.storage.v1 import storage_pb2 as pb
from wellspring_client.calls import Caller
from wellspring_client.errors import from_status
from wellspring_client.storage_types import Record, as_bytes, ranges_of, selection

SERVICE = pb.DESCRIPTOR.services_by_name["Storage"]
_BATCH = 1_000
_Answer = TypeVar("_Answer", bound=Message)


class NamespaceReads:
    """The reading half of :class:`~wellspring_client.storage.Namespace`."""

    def __init__(self, caller: Caller, name: str) -> None:
        self.name = name
        self._caller = caller

    async def get(
        self, record: str | bytes, key: str | bytes = b"", *, cookie: str = "", timeout: float | None = None
    ) -> pb.Item | None:
        """One item with its value, None when it is not there. ``cookie`` of an earlier receipt: this read sees that
        write.
        """
        request = pb.GetRequest(
            namespace=self.name, record=as_bytes(record), selection=selection([key], None, None), cookie=cookie
        )
        answer = await self.read(request, timeout=timeout)
        return answer.items[0] if answer.items else None

    async def read(self, request: pb.GetRequest, *, timeout: float | None = None) -> pb.GetResponse:
        """One page, as the contract has it: for ``if_not_etag``, limits and page tokens of your own. The namespace is
        filled in.
        """
        request.namespace = self.name
        return await self._call("Get", request, pb.GetResponse, timeout)

    async def item_pages(
        self,
        record: str | bytes,
        *,
        keys: Sequence[str | bytes] | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        reverse: bool = False,
        omit_values: bool = False,
        cookie: str = "",
        timeout: float | None = None,
    ) -> AsyncIterator[list[pb.Item]]:
        """The record's items, a page at a time (at most 1 MiB and 1,000 items); ``timeout`` is of each page."""
        request = pb.GetRequest(
            namespace=self.name,
            record=as_bytes(record),
            selection=selection(keys, start, end, reverse),
            cookie=cookie,
            omit_values=omit_values,
        )
        while True:
            answer = await self.read(request, timeout=timeout)
            yield list(answer.items)
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def get_many(
        self,
        records: Sequence[str | bytes],
        key: str | bytes = b"",
        *,
        consistency: "pb.Consistency.ValueType" = pb.CONSISTENCY_UNSPECIFIED,
        omit_values: bool = False,
        timeout: float | None = None,
    ) -> list[pb.Item | None]:
        """The same item of each of many records, in order, None where it is not there. Raises the first error of a
        record.
        """
        found: list[pb.Item | None] = [None] * len(records)
        todo = list(range(len(records)))
        while todo:
            request = pb.BatchGetRequest(
                requests=[
                    pb.GetRequest(
                        namespace=self.name,
                        record=as_bytes(records[index]),
                        selection=selection([key], None, None),
                        consistency=consistency,
                        omit_values=omit_values,
                    )
                    for index in todo[:_BATCH]
                ]
            )
            answer = await self._call("BatchGet", request, pb.BatchGetResponse, timeout)
            later = []
            for index, result in zip(todo, answer.results, strict=False):
                if result.status.code:
                    error = from_status(result.status)
                    if error.reason != "BATCH_BUDGET_SPENT" or index == todo[0]:
                        raise error
                    later.append(index)
                elif result.response.items:
                    found[index] = result.response.items[0]
            todo = later + todo[_BATCH:]
        return found

    async def scan_pages(
        self,
        *,
        ranges: Sequence[tuple[str | bytes, str | bytes]] = (),
        prefix: str | bytes | None = None,
        keys: Sequence[str | bytes] | None = None,
        omit_values: bool = False,
        resume_token: str = "",
        batch_records: int = 0,
        max_records: int = 0,
    ) -> AsyncIterator[pb.ScanResponse]:
        """All records, or those in ``ranges`` [start, end) or under ``prefix``, an answer at a time, over as many
        connections as it takes, and no more than ``max_records`` (0: all). A later scan with the same arguments goes on
        at an answer's ``resume_token``."""
        wanted, left = ranges_of(ranges, prefix), max_records

        def request(token: str) -> pb.ScanRequest:
            return pb.ScanRequest(
                namespace=self.name,
                ranges=wanted,
                projection=selection(keys, None, None),
                resume_token=token,
                omit_values=omit_values,
                batch_records=batch_records,
                max_records=left,
            )

        async for answer in self._caller.resuming(
            SERVICE, "Scan", request, pb.ScanResponse, resume_token, lambda one: one.resume_token, endless=False
        ):
            yield answer
            left -= sum(not one.partial for one in answer.records)
            if max_records > 0 and left <= 0:
                return

    async def record_pages(
        self,
        *,
        ranges: Sequence[tuple[str | bytes, str | bytes]] = (),
        prefix: str | bytes | None = None,
        keys: Sequence[str | bytes] | None = None,
        omit_values: bool = False,
    ) -> AsyncIterator[list[Record]]:
        """As :meth:`scan_pages`, with each record whole."""
        partial: Record | None = None
        async for answer in self.scan_pages(ranges=ranges, prefix=prefix, keys=keys, omit_values=omit_values):
            whole = []
            for piece in answer.records:
                if partial is not None and partial.key == piece.record:
                    partial.items.extend(piece.items)
                else:
                    partial = Record(piece.record, list(piece.items))
                if not piece.partial:
                    whole.append(partial)
                    partial = None
            if whole:
                yield whole

    async def scan(
        self,
        *,
        ranges: Sequence[tuple[str | bytes, str | bytes]] = (),
        prefix: str | bytes | None = None,
        keys: Sequence[str | bytes] | None = None,
        omit_values: bool = False,
    ) -> AsyncIterator[Record]:
        """Record by record."""
        async for page in self.record_pages(ranges=ranges, prefix=prefix, keys=keys, omit_values=omit_values):
            for record in page:
                yield record

    async def items(
        self,
        record: str | bytes,
        *,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        reverse: bool = False,
        omit_values: bool = False,
    ) -> AsyncIterator[pb.Item]:
        """The record's items one by one, in the order of their keys."""
        async for page in self.item_pages(record, start=start, end=end, reverse=reverse, omit_values=omit_values):
            for item in page:
                yield item

    async def split(self, parts: int, *, timeout: float | None = None) -> list[tuple[bytes, bytes]]:
        """Ranges that split the namespace into about equal parts, for scans side by side."""
        request = pb.SplitRangesRequest(namespace=self.name, parts=parts)
        answer = await self._call("SplitRanges", request, pb.SplitRangesResponse, timeout)
        return [(part.start, part.end) for part in answer.ranges]

    async def watch(
        self,
        *,
        resume_token: str = "",
        from_beginning: bool = False,
        ranges: Sequence[tuple[str | bytes, str | bytes]] = (),
        heartbeat: datetime.timedelta | None = None,
        max_events: int = 0,
    ) -> AsyncIterator[pb.WatchResponse]:
        """The change feed, for ever: answers with ``events`` or a ``heartbeat``, and the ``resume_token`` to keep once
        they are dealt with. Broken connections are taken up again. Raises ResumeTokenExpired, and Unavailable when
        nobody answers.
        """
        interval = Duration()
        if heartbeat is not None:
            interval.FromTimedelta(heartbeat)

        def request(token: str) -> pb.WatchRequest:
            return pb.WatchRequest(
                namespace=self.name,
                resume_token=token,
                ranges=ranges_of(ranges, None),
                from_beginning=from_beginning and not token,
                heartbeat_interval=interval if heartbeat is not None else None,
                max_events=max_events,
            )

        async for answer in self._caller.resuming(
            SERVICE, "Watch", request, pb.WatchResponse, resume_token, lambda one: one.resume_token, endless=True
        ):
            yield answer

    async def outcome(
        self, record: str | bytes, token: pb.WriteToken, *, timeout: float | None = None
    ) -> pb.GetOutcomeResponse:
        """What became of the write with this token."""
        request = pb.GetOutcomeRequest(namespace=self.name, record=as_bytes(record), token=token)
        return await self._call("GetOutcome", request, pb.GetOutcomeResponse, timeout)

    async def download(
        self,
        record: str | bytes,
        key: str | bytes = b"",
        *,
        offset: int = 0,
        limit: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[pb.DownloadResponse]:
        """One big value: first its item without the value, then chunks, then the checksum of the whole."""
        request = pb.DownloadRequest(
            namespace=self.name, record=as_bytes(record), item_key=as_bytes(key), offset=offset, limit=limit
        )
        async for answer in self._caller.stream(SERVICE, "Download", request, pb.DownloadResponse, timeout):
            yield answer

    async def _call(self, method: str, request: Message, answer: type[_Answer], timeout: float | None) -> _Answer:
        return await self._caller.unary(SERVICE, method, request, answer, timeout)
