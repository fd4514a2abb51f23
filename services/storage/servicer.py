"""The data plane: each RPC is its request read, its namespace entered, the store asked, the answer written."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from libs.errors.errors import InvalidArgument, WellspringError
from libs.rpc.call import Call
from libs.rpc.errors import to_status
from services.storage import answers, many, requests
from services.storage.domain import limits
from services.storage.domain.admission import Gate
from services.storage.domain.commands import body_digest
from services.storage.domain.errors import ConsistencyUnavailable
from services.storage.domain.model import ALL, Command, Receipt
from services.storage.domain.namespace import Namespace
from services.storage.namespaces import CONSISTENCIES
from services.storage.registry import Registry
from services.storage.store.interface import Page, Read, Store, Write
from services.storage.streams import Streams
from services.storage.tokens import Tokens, cookie, open_cookie
from services.storage.uploading import Uploading
from wellspring.storage.v1 import storage_pb2 as pb

_RETRY_S = 1.0
_tuple: Final = tuple.__new__


class StorageServicer:
    """``wellspring.storage.v1.Storage``."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        tokens: Tokens,
        reader: requests.Reader,
        clock_us: Callable[[], int],
        *,
        token_window_us: int,
        max_page: int = limits.MAX_READ_BYTES,
        max_upload: int = limits.MAX_UPLOAD,
    ) -> None:
        """``token_window_us``: how long the store remembers tokens; ``max_page`` and ``max_upload`` in bytes."""
        self._store = store
        self._registry = registry
        self._tokens = tokens
        self._reader = reader
        self._token_window_us = token_window_us
        self._max_page = max_page
        self._streams = Streams(store, registry, tokens, clock_us)
        self._uploading = Uploading(store, registry, reader, clock_us, self._fill_receipt, max_upload)

    # Writes

    async def Put(self, request: pb.PutRequest, call: Call) -> bytes:
        gate = self._registry.enter(request.namespace, call.identity, write=True)
        try:
            space = gate.namespace
            return await self._mutate(space, self._reader.put(request, space))
        finally:
            gate.leave()

    async def Delete(self, request: pb.DeleteRequest, call: Call) -> bytes:
        gate = self._registry.enter(request.namespace, call.identity, write=True)
        try:
            space = gate.namespace
            return await self._mutate(space, self._reader.delete(request, space))
        finally:
            gate.leave()

    async def Mutate(self, request: pb.MutateRequest, call: Call) -> bytes:
        gate = self._registry.enter(request.namespace, call.identity, write=True)
        try:
            space = gate.namespace
            return await self._mutate(space, self._reader.mutate(request, space))
        finally:
            gate.leave()

    async def BatchMutate(self, request: pb.BatchMutateRequest, call: Call) -> bytes:
        _check_batch(len(request.requests))
        entered: dict[str, Gate] = {}
        writes: list[Write] = []
        results: list[WellspringError | None] = []
        left, read = limits.MAX_BATCH_ITEMS, self._reader.mutate
        try:
            for one in request.requests:
                try:
                    left -= len(one.mutations)
                    if left < 0:
                        what = f"hold more than {limits.MAX_BATCH_ITEMS} mutations together"
                        raise InvalidArgument.field("requests", what)
                    gate = self._registry.enter_batch(entered, one.namespace, call.identity, write=True)
                    space = gate.namespace
                    writes.append(_tuple(Write, (space, read(one, space))))
                    results.append(None)
                except WellspringError as error:
                    results.append(error)
            done = iter(await self._store.mutate(writes) if writes else ())
        finally:
            for gate in entered.values():
                gate.leave()
        parts = []
        writing, cursor = iter(writes), self._store.feed_cursor
        for refused in results:
            if refused is None:
                (space, command), given = next(writing), next(done)
                if isinstance(given, Receipt):
                    parts.append(answers.mutated_one(given, space, command.record, cursor(space, given)))
                    continue
                refused = given
            parts.append(answers.refused_one(refused))
        return b"".join(parts)

    async def PutMany(self, request: pb.PutManyRequest, call: Call) -> pb.PutManyResponse:
        count = len(request.records)
        gate = self._registry.enter(request.namespace, call.identity, write=True, count=max(1, count))
        try:
            space = gate.namespace
            writes, refused = many.read(request, space, self._reader)
            results = await self._store.mutate(writes) if writes else []
        finally:
            gate.leave()
        answer, newest = many.answer(results, refused)
        if newest is not None:
            answer.cookie = cookie(self._store.feed_cursor(space, newest))
        return answer

    async def Undelete(self, request: pb.UndeleteRequest, call: Call) -> pb.UndeleteResponse:
        gate = self._registry.enter(request.namespace, call.identity, write=True)
        try:
            space = gate.namespace
            requests.check_record(request.record, space)
            token = requests.read_token(request.token)
            selection = requests.read_selection(request.selection, "selection")
            if len(request.version) not in (0, limits.VERSION_SIZE):
                raise InvalidArgument.field("version", f"a version has {limits.VERSION_SIZE} bytes")
            wanted = request.selection.SerializeToString(deterministic=True) + b"\0" + request.version
            body = body_digest((), (), None, {"undelete": wanted.hex()})
            command = Command(request.record, token, (), (), (), body)
            given = await self._store.undelete(space, command, selection, request.version)
            answer = pb.UndeleteResponse(restored_items=given.deleted_items)
            self._fill_receipt(answer.receipt, given._replace(deleted_items=0), space, request.record)
            return answer
        finally:
            gate.leave()

    async def _mutate(self, space: Namespace, command: Command) -> bytes:
        """The answer, serialised."""
        (given,) = await self._store.mutate((Write(space, command),))
        if isinstance(given, WellspringError):
            raise given
        return answers.mutated(given, space, command.record, self._store.feed_cursor(space, given))

    def _fill_receipt(self, answer: pb.Receipt, given: Receipt, space: Namespace, record: bytes) -> None:
        answers.fill_receipt(answer, given, space, record, self._store.feed_cursor(space, given))

    # Reads

    async def Get(self, request: pb.GetRequest, call: Call) -> pb.GetResponse:
        gate = self._registry.enter(request.namespace, call.identity, write=False)
        try:
            read = self._read(request, gate.namespace)
            answer = pb.GetResponse()
            self._fill_page(answer, request, await self._store.read(read))
            return answer
        finally:
            gate.leave()

    async def BatchGet(self, request: pb.BatchGetRequest, call: Call) -> pb.BatchGetResponse:
        _check_batch(len(request.requests))
        entered: dict[str, Gate] = {}
        reads: list[Read] = []
        results: list[WellspringError | None] = []
        try:
            for one in request.requests:
                try:
                    gate = self._registry.enter_batch(entered, one.namespace, call.identity, write=False)
                    reads.append(self._read(one, gate.namespace))
                    results.append(None)
                except WellspringError as error:
                    results.append(error)
            pages = iter(await self._store.read_many(reads, limits.BATCH_READ_BYTES) if reads else ())
        finally:
            for gate in entered.values():
                gate.leave()
        answer = pb.BatchGetResponse()
        for one, refused in zip(request.requests, results, strict=True):
            result = answer.results.add()
            given = next(pages) if refused is None else refused
            if isinstance(given, WellspringError):
                result.status.CopyFrom(to_status(given))
            else:
                self._fill_page(result.response, one, given)
                result.status.SetInParent()
        return answer

    def _read(self, request: pb.GetRequest, space: Namespace) -> Read:
        requests.check_record(request.record, space)
        requests.check_consistency(request.consistency)
        selection = requests.read_selection(request.selection, "selection") if request.HasField("selection") else ALL
        max_bytes, max_items = min(limits.DEFAULT_READ_BYTES, self._max_page), limits.DEFAULT_READ_ITEMS
        if request.HasField("limits"):
            given = request.limits
            max_bytes = requests.bounded(given.max_bytes, max_bytes, self._max_page, "limits.max_bytes")
            max_items = requests.bounded(given.max_items, max_items, limits.MAX_READ_ITEMS, "limits.max_items")
        seen = open_cookie(request.cookie, "cookie") if request.cookie else b""
        if seen and not self._store.feed_reaches(space, seen):
            raise ConsistencyUnavailable(
                "this server has not seen the write that the cookie stands for; it was restored from a backup, or the"
                " cookie is of another namespace",
                retry_after_s=_RETRY_S,
            )
        if request.if_not_etag and (selection.keys is None or len(selection.keys) != 1):
            raise InvalidArgument.field("if_not_etag", "belongs to one item: select one key")
        after = None
        if request.page_token:
            after = self._tokens.open_page(request.page_token, "Get", _identity(request))
        consistency = CONSISTENCIES.get(request.consistency)
        bounds = (max_bytes, max_items, request.omit_values)
        return Read(space, request.record, selection, after, *bounds, consistency, seen)

    def _fill_page(self, answer: pb.GetResponse, request: pb.GetRequest, given: Page) -> None:
        if request.if_not_etag and given.items and given.items[0].version.hex() == request.if_not_etag:
            answer.not_modified = answer.complete = answer.found = True
            answer.record_etag = given.version.hex()
            return
        token = ""
        if given.resume is not None:
            token = self._tokens.page(given.resume, "Get", _identity(request))
        answers.fill_page(answer, given, token, omit_values=request.omit_values)

    async def GetOutcome(self, request: pb.GetOutcomeRequest, call: Call) -> pb.GetOutcomeResponse:
        gate = self._registry.enter(request.namespace, call.identity, write=False)
        try:
            space = gate.namespace
            requests.check_record(request.record, space)
            token = requests.read_token(request.token)
            found = await self._store.outcome(space, request.record, token)
        finally:
            gate.leave()
        window = Duration()
        window.FromMicroseconds(self._token_window_us)
        states = pb.GetOutcomeResponse
        if found is None:
            return states(state=states.STATE_UNKNOWN, window=window)
        state = states.STATE_CURRENT if found.current else states.STATE_NOT_CURRENT
        return states(state=state, window=window, version=found.version)

    async def ListVersions(self, request: pb.ListVersionsRequest, call: Call) -> pb.ListVersionsResponse:
        gate = self._registry.enter(request.namespace, call.identity, write=False)
        try:
            space = gate.namespace
            requests.check_record(request.record, space)
            if len(request.item_key) > limits.MAX_ITEM_KEY:
                raise InvalidArgument.field("item_key", f"at most {limits.MAX_ITEM_KEY} bytes are allowed")
            size = requests.bounded(request.page_size, limits.DEFAULT_PAGE, limits.MAX_PAGE, "page_size")
            identity = (request.namespace, request.record, request.item_key, str(request.omit_values))
            after = self._tokens.open_page(request.page_token, "ListVersions", identity)
            found, resume = await self._store.versions(
                space, request.record, request.item_key, after, size, omit_values=request.omit_values
            )
        finally:
            gate.leave()
        token = "" if resume is None else self._tokens.page(resume, "ListVersions", identity)
        versions = [answers.kept_version(one, omit_values=request.omit_values) for one in found]
        return pb.ListVersionsResponse(versions=versions, next_page_token=token)

    async def SplitRanges(self, request: pb.SplitRangesRequest, call: Call) -> pb.SplitRangesResponse:
        if not 1 <= request.parts <= limits.MAX_SPLIT_PARTS:
            what = f"is {request.parts}; 1 to {limits.MAX_SPLIT_PARTS} are allowed"
            raise InvalidArgument.field("parts", what)
        gate = self._registry.enter(request.namespace, call.identity, write=False)
        try:
            cuts = await self._store.split(gate.namespace, request.parts)
        finally:
            gate.leave()
        ranges = [pb.KeyRange(start=start, end=end) for start, end in zip([b"", *cuts], [*cuts, b""], strict=True)]
        return pb.SplitRangesResponse(ranges=ranges)

    # Streams

    def Scan(self, request: pb.ScanRequest, call: Call) -> AsyncIterator[bytes]:
        return self._streams.scan(request, call)

    def Watch(self, request: pb.WatchRequest, call: Call) -> AsyncIterator[pb.WatchResponse]:
        return self._streams.watch(request, call)

    async def Upload(self, requests: AsyncIterator[pb.UploadRequest], call: Call) -> pb.UploadResponse:
        return await self._uploading.upload(requests, call)

    def Download(self, request: pb.DownloadRequest, call: Call) -> AsyncIterator[pb.DownloadResponse]:
        return self._uploading.download(request, call)


def _check_batch(count: int) -> None:
    if not 1 <= count <= limits.MAX_BATCH:
        raise InvalidArgument.field("requests", f"has {count} entries; 1 to {limits.MAX_BATCH} are allowed")


def _identity(request: pb.GetRequest) -> tuple[bytes]:
    """What a page token is bound to: all of the request but the token and the limits."""
    bound: Any = pb.GetRequest()
    bound.CopyFrom(request)
    bound.ClearField("page_token")
    bound.ClearField("limits")
    return (bound.SerializeToString(deterministic=True),)
