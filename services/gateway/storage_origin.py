"""Pages out of the storage service."""

from libs.purge.naming import TAGS_ATTRIBUTE
from services.gateway.domain.cache import Page
from services.gateway.domain.routes import Target
from services.gateway.origin import OriginUnavailable
from wellspring.storage.v1 import storage_admin_pb2, storage_pb2
from wellspring_client.calls import Caller
from wellspring_client.errors import NotFound, WellspringError

_STORAGE = storage_pb2.DESCRIPTOR.services_by_name["Storage"]
_ADMIN = storage_admin_pb2.DESCRIPTOR.services_by_name["StorageAdmin"]

DEFAULT_CONTENT_TYPE = "text/html; charset=utf-8"
CHUNK_LIMIT_BYTES = 64 << 20
"""A page in chunks is put together in memory; a bigger one is not a page."""


class StorageOrigin:
    """One item of one record for each page."""

    def __init__(self, caller: Caller, max_wait_s: float) -> None:
        self._caller = caller
        self._max_wait_s = max_wait_s

    async def fetch(self, target: Target, *, strong: bool) -> Page | None:
        """The page, None when there is none. Raises OriginUnavailable."""
        request = storage_pb2.GetRequest(
            namespace=target.namespace,
            record=target.record,
            selection=storage_pb2.Selection(keys=storage_pb2.Keys(keys=[target.item_key])),
            consistency=storage_pb2.CONSISTENCY_STRONG_GLOBAL if strong else storage_pb2.CONSISTENCY_UNSPECIFIED,
        )
        try:
            answer = await self._caller.unary(_STORAGE, "Get", request, storage_pb2.GetResponse, self._max_wait_s)
            if not answer.items:
                return None
            item = answer.items[0]
            body = await self._chunks(target, item) if item.chunked else item.value
        except NotFound:
            return None
        except WellspringError as error:
            raise OriginUnavailable("storage cannot be reached", error.retry_after_s or 1.0) from None
        return Page(
            body=body,
            content_type=item.content_type or DEFAULT_CONTENT_TYPE,
            etag=item.etag,
            version=item.version,
            tags=tuple(item.attributes[TAGS_ATTRIBUTE].split()) if TAGS_ATTRIBUTE in item.attributes else (),
        )

    async def _chunks(self, target: Target, item: storage_pb2.Item) -> bytes:
        if item.size_bytes > CHUNK_LIMIT_BYTES:
            raise OriginUnavailable(f"the page has {item.size_bytes} bytes, at most {CHUNK_LIMIT_BYTES} are served")
        request = storage_pb2.DownloadRequest(
            namespace=target.namespace, record=target.record, item_key=target.item_key, if_etag=item.etag
        )
        body = bytearray()
        async for part in self._caller.stream(_STORAGE, "Download", request, storage_pb2.DownloadResponse, None):
            body += part.chunk
        return bytes(body)

    async def healthy(self) -> bool:
        """Whether storage answers."""
        request = storage_admin_pb2.ListNamespacesRequest(page_size=1)
        try:
            await self._caller.unary(_ADMIN, "ListNamespaces", request, storage_admin_pb2.ListNamespacesResponse, 1.0)
        except WellspringError:
            return False
        return True
