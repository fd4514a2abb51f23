"""The ports over the network: the engine and the store by gRPC."""

from collections.abc import Sequence

from libs.purge.naming import TAGS_ATTRIBUTE
from libs.render.types import Document
from services.propagation.executor import puts
from services.propagation.executor.ports import Output, Stored
from wellspring.propagation.v1 import work_pb2
from wellspring.storage.v1 import storage_pb2
from wellspring_client.calls import Caller
from wellspring_client.errors import Unavailable
from wellspring_client.storage_reads import NamespaceReads

_WORK = work_pb2.DESCRIPTOR.services_by_name["PropagationWork"]
_STORAGE = storage_pb2.DESCRIPTOR.services_by_name["Storage"]

_STRONG = storage_pb2.CONSISTENCY_STRONG_GLOBAL
_RESOURCE_EXHAUSTED = 8  # google.rpc.Code


class GrpcWork:
    """The engine."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def lease(self, request: work_pb2.LeaseRequest) -> work_pb2.LeaseResponse:
        """Waits as long as the request says, and a little for the way."""
        timeout_s = request.wait.ToNanoseconds() / 1e9 + 10
        return await self._caller.unary(_WORK, "Lease", request, work_pb2.LeaseResponse, timeout_s)

    async def complete(self, request: work_pb2.CompleteRequest) -> work_pb2.CompleteResponse:
        """Durable when answered."""
        return await self._caller.unary(_WORK, "Complete", request, work_pb2.CompleteResponse, None)

    async def extend(self, request: work_pb2.ExtendRequest) -> work_pb2.ExtendResponse:
        """A heartbeat."""
        return await self._caller.unary(_WORK, "Extend", request, work_pb2.ExtendResponse, 5.0)

    async def views(self) -> work_pb2.GetViewsResponse:
        """The views as the engine has them."""
        return await self._caller.unary(_WORK, "GetViews", work_pb2.GetViewsRequest(), work_pb2.GetViewsResponse, None)


class GrpcDocuments:
    """The store."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def fetch(self, namespace: str, records: Sequence[bytes], *, strong: bool = False) -> list[Document | None]:
        """The item with the empty key of each record, as the newest write left it; `strong`: in any data centre."""
        found: list[Document | None] = []
        waiting = list(records)
        while waiting:
            request = storage_pb2.BatchGetRequest(
                requests=[
                    storage_pb2.GetRequest(
                        namespace=namespace,
                        record=record,
                        selection=storage_pb2.Selection(keys=storage_pb2.Keys(keys=[b""])),
                        consistency=_STRONG if strong else storage_pb2.CONSISTENCY_UNSPECIFIED,
                    )
                    for record in waiting[: puts.BATCH_ITEMS]
                ]
            )
            answer = await self._caller.unary(_STORAGE, "BatchGet", request, storage_pb2.BatchGetResponse, None)
            taken = 0
            for result in answer.results:
                if taken and result.status.code == _RESOURCE_EXHAUSTED:
                    break  # the answer is full: the rest is asked for again
                found.append(_document(result))
                taken += 1
            del waiting[:taken]
        return found

    async def stored(self, namespace: str, item_key: bytes, records: Sequence[bytes]) -> list[Stored | None]:
        """The outputs in these records, as this data centre has them."""
        items = await NamespaceReads(self._caller, namespace).get_many(records, item_key)
        return [_stored(item) if item is not None else None for item in items]

    async def put(self, namespace: str, item_key: bytes, outputs: Sequence[Output], version: bytes) -> list[str | None]:
        """In order None, or why the output could not be stored."""
        problems: list[str | None] = [None] * len(outputs)
        for alike, places in puts.pieces(outputs):
            put = self._put_alike if alike else self._put_each
            for at, problem in (await put(namespace, item_key, [outputs[at] for at in places], version)).items():
                problems[places[at]] = problem
        return problems

    async def _put_alike(
        self, namespace: str, item_key: bytes, outputs: Sequence[Output], version: bytes
    ) -> dict[int, str]:
        request = puts.in_columns(namespace, item_key, outputs, version)
        answer = await self._caller.unary(_STORAGE, "PutMany", request, storage_pb2.PutManyResponse, None)
        return {refusal.index: str(refusal.status.message) for refusal in answer.refusals}

    async def _put_each(
        self, namespace: str, item_key: bytes, outputs: Sequence[Output], version: bytes
    ) -> dict[int, str]:
        # A put that a newer render overtook is no problem: its lease has ended, and the engine refuses the completion.
        request = puts.each(namespace, item_key, outputs, version)
        answer = await self._caller.unary(_STORAGE, "BatchMutate", request, storage_pb2.BatchMutateResponse, None)
        return {at: str(result.status.message) for at, result in enumerate(answer.results) if result.status.code}


def _stored(item: storage_pb2.Item) -> Stored:
    return Stored(item.value, item.content_type, tuple(item.attributes.get(TAGS_ATTRIBUTE, "").split()), item.version)


def _document(result: storage_pb2.BatchGetResponse.Result) -> Document | None:
    if result.status.code:
        raise Unavailable(f"an input cannot be read: {result.status.message}", reason="SOURCE_UNREADABLE")
    items = result.response.items
    if not items:
        return None
    return Document(items[0].value, items[0].version, items[0].content_type)
