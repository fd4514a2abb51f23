"""The storage service: its namespaces, made, looked after and ended; and the way to their records."""

import datetime
from collections.abc import AsyncIterator, Mapping
from typing import Literal

from google.protobuf.duration_pb2 import Duration

from wellspring.storage.v1 import storage_admin_pb2 as pb
from wellspring_client.calls import Caller
from wellspring_client.storage import Namespace
from wellspring_client.storage_whole import WholeNamespaces
from wellspring_client.tokens import WriteTokens


class Storage(WholeNamespaces):
    """The storage service."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller)
        self._tokens = WriteTokens()

    def namespace(self, name: str) -> Namespace:
        """The records of ``name``; no call is made."""
        return Namespace(self._caller, name, self._tokens)

    async def create_namespace(
        self,
        name: str,
        *,
        mode: Literal["LWW", "CAS"] = "LWW",
        resource_prefix: str | None = None,
        lane: str = "",
        item_aspects: Mapping[str, str] | None = None,
        description: str = "",
        settings: pb.Namespace | None = None,
        timeout: float | None = None,
    ) -> pb.Namespace:
        """Make a namespace, ready when this answers; the same again changes nothing. ``resource_prefix`` binds it to
        propagation; ``settings`` has what the arguments do not. Raises AlreadyExists when it is there with other
        settings.
        """
        namespace = pb.Namespace()
        if settings is not None:
            namespace.CopyFrom(settings)
        namespace.name = name
        namespace.mode = pb.MODE_CAS if mode == "CAS" else pb.MODE_LWW
        if description:
            namespace.description = description
        if resource_prefix is not None:
            binding = pb.Binding(resource_prefix=resource_prefix, lane=lane, item_aspects=item_aspects or {})
            namespace.binding.CopyFrom(binding)
        request = pb.CreateNamespaceRequest(namespace=namespace)
        return await self._call("CreateNamespace", request, pb.Namespace, timeout)

    async def get_namespace(self, name: str, *, timeout: float | None = None) -> pb.Namespace:
        """The namespace's settings. Raises NotFound."""
        return await self._call("GetNamespace", pb.GetNamespaceRequest(name=name), pb.Namespace, timeout)

    async def list_namespaces(
        self, *, bound_only: bool = False, show_deleting: bool = False, timeout: float | None = None
    ) -> AsyncIterator[pb.Namespace]:
        """All namespaces that this caller may see."""
        request = pb.ListNamespacesRequest(bound_only=bound_only, show_deleting=show_deleting)
        while True:
            answer = await self._call("ListNamespaces", request, pb.ListNamespacesResponse, timeout)
            for namespace in answer.namespaces:
                yield namespace
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def update_namespace(
        self, namespace: pb.Namespace, *paths: str, timeout: float | None = None
    ) -> pb.Namespace:
        """Change the fields at ``paths`` (all when none is named) to those of ``namespace``; its etag, if set, must be
        current.
        """
        request = pb.UpdateNamespaceRequest(namespace=namespace)
        request.update_mask.paths.extend(paths)
        return await self._call("UpdateNamespace", request, pb.Namespace, timeout)

    async def delete_namespace(
        self,
        name: str,
        *,
        grace: datetime.timedelta | None = None,
        allow_missing: bool = False,
        timeout: float | None = None,
    ) -> pb.Namespace:
        """Refuse reads and writes at once; the data goes after ``grace`` (None: the server's default)."""
        request = pb.DeleteNamespaceRequest(name=name, allow_missing=allow_missing)
        if grace is not None:
            duration = Duration()
            duration.FromTimedelta(grace)
            request.grace.CopyFrom(duration)
        return await self._call("DeleteNamespace", request, pb.Namespace, timeout)

    async def undelete_namespace(self, name: str, *, timeout: float | None = None) -> pb.Namespace:
        """Take a delete back within its grace."""
        return await self._call("UndeleteNamespace", pb.UndeleteNamespaceRequest(name=name), pb.Namespace, timeout)
