"""Namespaces made, looked after and ended. What this server does not do yet answers UNIMPLEMENTED; the README lists
it."""

from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from libs.errors.errors import InvalidArgument, NotFound
from libs.rpc.call import Call
from services.storage import requests
from services.storage.answers import timestamp
from services.storage.domain import limits
from services.storage.domain.namespace import MAX_GRACE_US, Settings, check_name
from services.storage.namespaces import to_message, to_settings
from services.storage.registry import Registry
from services.storage.store.interface import Store
from services.storage.tokens import Tokens
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb

_FIXED: Final = ("name", "mode")
_GIVEN: Final = ("state", "create_time", "purge_time", "etag")


class StorageAdminServicer:
    """``wellspring.storage.v1.StorageAdmin``."""

    def __init__(self, store: Store, registry: Registry, tokens: Tokens) -> None:
        self._store = store
        self._registry = registry
        self._tokens = tokens

    async def CreateNamespace(self, request: admin_pb.CreateNamespaceRequest, call: Call) -> admin_pb.Namespace:
        settings = to_settings(request.namespace, self._registry.deployment)
        return to_message(await self._registry.create(settings))

    async def GetNamespace(self, request: admin_pb.GetNamespaceRequest, call: Call) -> admin_pb.Namespace:
        check_name(request.name, "name")
        return to_message(self._registry.get(request.name))

    async def ListNamespaces(
        self, request: admin_pb.ListNamespacesRequest, call: Call
    ) -> admin_pb.ListNamespacesResponse:
        size = requests.bounded(request.page_size, limits.DEFAULT_PAGE, limits.MAX_PAGE, "page_size")
        identity = (str(request.bound_only), str(request.show_deleting))
        after = self._tokens.open_page(request.page_token, "ListNamespaces", identity)
        found, resume = self._registry.page(
            (after or b"").decode(),
            size,
            bound_only=request.bound_only,
            show_deleting=request.show_deleting,
        )
        token = "" if resume is None else self._tokens.page(resume.encode(), "ListNamespaces", identity)
        return admin_pb.ListNamespacesResponse(namespaces=[to_message(one) for one in found], next_page_token=token)

    async def UpdateNamespace(self, request: admin_pb.UpdateNamespaceRequest, call: Call) -> admin_pb.Namespace:
        wanted = request.namespace
        check_name(wanted.name, "namespace.name")
        paths = list(request.update_mask.paths) or [field.name for field, _ in wanted.ListFields()]
        changing = _mask(wanted, paths)

        def change(settings: Settings) -> Settings:
            message = to_message(self._registry.get(settings.name))
            changing.MergeMessage(wanted, message, replace_message_field=True, replace_repeated_field=True)
            if message.mode != to_message(self._registry.get(settings.name)).mode:
                raise InvalidArgument.field("namespace.mode", "never changes; make a new namespace")
            return to_settings(message, self._registry.deployment)

        return to_message(await self._registry.update(wanted.name, wanted.etag, change))

    async def DeleteNamespace(self, request: admin_pb.DeleteNamespaceRequest, call: Call) -> admin_pb.Namespace:
        check_name(request.name, "name")
        grace_us = None
        if request.HasField("grace"):
            grace_us = requests.read_duration(request.grace, "grace")
            if grace_us > MAX_GRACE_US:
                raise InvalidArgument.field("grace", "0 s to 90 days are allowed")
        try:
            return to_message(await self._registry.delete(request.name, request.etag, grace_us))
        except NotFound:
            if not request.allow_missing:
                raise
            return admin_pb.Namespace(name=request.name)

    async def UndeleteNamespace(self, request: admin_pb.UndeleteNamespaceRequest, call: Call) -> admin_pb.Namespace:
        check_name(request.name, "name")
        return to_message(await self._registry.undelete(request.name))

    async def GetUsage(self, request: admin_pb.GetUsageRequest, call: Call) -> admin_pb.GetUsageResponse:
        check_name(request.name, "name")
        namespace = self._registry.get(request.name)
        usage = await self._store.usage(namespace)
        reads_per_s, writes_per_s = self._registry.rates_per_s(request.name)
        return admin_pb.GetUsageResponse(
            records=usage.records,
            items=usage.items,
            bytes=usage.size_bytes,
            exact=usage.exact,
            counted_time=timestamp(usage.counted_us),
            reads_per_s=reads_per_s,
            writes_per_s=writes_per_s,
        )


def _mask(wanted: admin_pb.Namespace, paths: list[str]) -> FieldMask:
    """The fields to change: those named, without what a caller cannot set. Raises InvalidArgument for unknown ones."""
    mask = FieldMask(paths=[path for path in paths if path.split(".")[0] not in (*_GIVEN, "name")])
    if not mask.IsValidForDescriptor(wanted.DESCRIPTOR):
        known = ", ".join(field.name for field in wanted.DESCRIPTOR.fields if field.name not in (*_GIVEN, *_FIXED))
        raise InvalidArgument.field("update_mask", f"names a field that a namespace has not; it has {known}")
    return mask
