"""The engine and the store by gRPC."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import cast

from libs.ids.ids import VERSION_BYTES
from libs.purge.naming import TAGS_ATTRIBUTE
from services.propagation.auditor.hashes import possible_hashes
from services.propagation.auditor.ports import (
    ChangedOutput,
    Output,
    OutputPage,
    ScannedItem,
    ScanPage,
    StoredPage,
    Wanted,
)
from services.propagation.domain.names import output_parts
from services.propagation.executor.hashing import HASH_BYTES
from services.propagation.executor.puts import MAX_TAGS_BYTES
from wellspring.propagation.v1 import propagation_admin_pb2, propagation_pb2, work_pb2
from wellspring.storage.v1 import storage_pb2
from wellspring_client import packed
from wellspring_client.calls import Caller
from wellspring_client.errors import NotFound, ServerFault
from wellspring_client.propagation import Propagation
from wellspring_client.storage import Namespace
from wellspring_client.storage_reads import NamespaceReads
from wellspring_client.tokens import WriteTokens

_ADMIN = propagation_admin_pb2.DESCRIPTOR.services_by_name["PropagationAdmin"]
_STORAGE = storage_pb2.DESCRIPTOR.services_by_name["Storage"]
_FINISHED = (
    propagation_pb2.Root.STATE_DONE,
    propagation_pb2.Root.STATE_DONE_WITH_FAILURES,
    propagation_pb2.Root.STATE_CANCELLED,
)
_GIVEN_UP = (
    propagation_pb2.ExplainResponse.Step.DECISION_FAILED,
    propagation_pb2.ExplainResponse.Step.DECISION_CANCELLED,
)
_Watched = propagation_pb2.WatchChangesResponse
_STRONG = storage_pb2.CONSISTENCY_STRONG_GLOBAL
_MAY_BE_CUT_BYTES = MAX_TAGS_BYTES // 2
"""Of tags: an executor stores those that fit; with so many some may have been left out, and the hash cannot be told."""
MAX_PAGE_BYTES = 64 << 20
"""A page in chunks is put together to be hashed; the gateway serves none that is bigger."""


class GrpcEngine:
    """The engine."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._client = Propagation(caller)

    async def views(self) -> Sequence[work_pb2.View]:
        """The views in force."""
        return list((await self._client.admin.list_views()).views)

    async def outputs(self, view: str, token: str, size: int) -> OutputPage:
        """At most `size` outputs of a view. Raises ServerFault for an answer whose fields do not fit together."""
        request = propagation_admin_pb2.ListOutputsRequest(view=view, page_size=size, page_token=token)
        answer = await self._caller.unary(
            _ADMIN, "ListOutputs", request, propagation_admin_pb2.ListOutputsResponse, None
        )
        names = packed.decode_names(answer.names)
        hashes, versions, states = answer.hashes, answer.versions, answer.states
        if len(hashes) != HASH_BYTES * len(names) or len(versions) != len(hashes) or len(states) != len(names):
            raise ServerFault(f"the engine's list of outputs of {view} does not fit together")
        outputs = tuple(
            Output(name, hashes[16 * n : 16 * n + 16], versions[16 * n : 16 * n + 16], states[n])
            for n, name in enumerate(names)
        )
        return OutputPage(outputs, answer.next_page_token)

    async def changes(self) -> AsyncGenerator[Sequence[ChangedOutput], None]:
        """Outputs as they change, from now on."""
        # The SDK's iterators are generators: closing one ends the call, and the engine has nothing more to tell.
        watched = cast("AsyncGenerator[_Watched, None]", self._client.watch_changes(include_outputs=True))
        async with aclosing(watched) as answers:
            async for answer in answers:
                yield [changed for event in answer.events if (changed := _changed(event)) is not None]

    async def knows(self, view: str, resource: str) -> bool:
        """Whether the engine rendered the output, will render it, or gave it up by name."""
        try:
            answer = await self._client.explain(resource, view)
        except NotFound as error:
            if error.reason == "VIEW_NOT_FOUND":
                raise
            return False
        return bool(answer.pending or answer.rendered_at) or any(s.decision in _GIVEN_UP for s in answer.steps)

    async def rerender(self, root: str, view: str, names: Sequence[str], reason: str) -> int:
        """Makes the outputs pending, to be stored and purged whatever their bytes."""
        request = propagation_admin_pb2.RerenderRequest(
            id=root, view=view, names=packed.encode_names(names), publish_unchanged=True, reason=reason
        )
        answer = await self._caller.unary(_ADMIN, "Rerender", request, propagation_admin_pb2.RerenderResponse, None)
        return answer.pages

    async def newest(self) -> bytes:
        """The rendered version of what it would lease now: (epoch, sequence)."""
        status = await self._client.admin.status()
        return status.epoch.to_bytes(8, "big") + status.sequence.to_bytes(8, "big")

    async def finished(self, root: str) -> bool:
        """Whether nothing of the root is left to do; one that is not known any more has ended."""
        try:
            return (await self._client.get_change(root)).state in _FINISHED
        except NotFound:
            return True


class GrpcPages:
    """The store."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._tokens = WriteTokens()

    async def fetch(
        self, namespace: str, item_key: bytes, wanted: Sequence[Wanted], *, strong: bool = False
    ) -> list[StoredPage | None]:
        """The pages in order, None where there is none."""
        consistency = _STRONG if strong else storage_pb2.CONSISTENCY_UNSPECIFIED
        reads = NamespaceReads(self._caller, namespace)
        items = await reads.get_many([one.record for one in wanted], item_key, consistency=consistency)
        return [
            await self._page(namespace, one, item) if item is not None else None
            for one, item in zip(wanted, items, strict=True)
        ]

    async def remove(self, namespace: str, item_key: bytes, record: bytes) -> None:
        """Deletes a page that was written by a plain put."""
        store = Namespace(self._caller, namespace, self._tokens)
        await store.delete(record, keys=[item_key], allow_missing=True, annotations={"cause": "audit"})

    async def scan(self, namespace: str, item_keys: Sequence[bytes], token: str) -> AsyncIterator[ScanPage]:
        """The items under these keys of all records, from `token` on."""
        reads = NamespaceReads(self._caller, namespace)
        async for page in reads.scan_pages(keys=list(item_keys), omit_values=True, resume_token=token):
            items = tuple(ScannedItem(r.record, item.key) for r in page.records for item in r.items)
            yield ScanPage(items, page.resume_token)

    async def _page(self, namespace: str, wanted: Wanted, item: storage_pb2.Item) -> StoredPage | None:
        body: bytes | None = item.value
        if item.chunked:
            body = await self._chunks(namespace, wanted, item)
        tags = item.attributes.get(TAGS_ATTRIBUTE, "")
        if body is None or len(tags) > _MAY_BE_CUT_BYTES:
            return StoredPage(item.version, None)
        return StoredPage(item.version, possible_hashes(body, item.content_type, tags.split(), wanted.view_tags))

    async def _chunks(self, namespace: str, wanted: Wanted, item: storage_pb2.Item) -> bytes | None:
        """The bytes; None of a page that is too big to be put together."""
        if item.size_bytes > MAX_PAGE_BYTES:
            return None
        request = storage_pb2.DownloadRequest(
            namespace=namespace, record=wanted.record, item_key=item.key, if_etag=item.etag
        )
        body = bytearray()
        async for part in self._caller.stream(_STORAGE, "Download", request, storage_pb2.DownloadResponse, None):
            body += part.chunk
        return bytes(body)


def _changed(event: propagation_pb2.WatchChangesResponse.Event) -> ChangedOutput | None:
    """The event's output; None for a change of anything else."""
    parts = output_parts(event.change.resource)
    if parts is None or len(event.change.version) != VERSION_BYTES:
        return None
    return ChangedOutput(*parts, event.change.version, event.output_hash, event.change.time.ToNanoseconds())
