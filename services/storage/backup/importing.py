"""Imports: the stream is kept in a file and verified as it arrives; only then is it written into the namespace."""

import asyncio
from collections.abc import AsyncIterator, Callable

from libs.errors.errors import InvalidArgument
from libs.rpc.call import Call
from services.storage.backup.contents import Contents
from services.storage.backup.folder import Draft, Folder
from services.storage.backup.format import End, Header
from services.storage.backup.loading import load_file
from services.storage.domain.errors import ChecksumMismatch, ModeMismatch, QuotaExceeded
from services.storage.domain.namespace import Namespace, check_name
from services.storage.registry import Registry
from services.storage.store.interface import Store
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb


class Importing:
    """ImportNamespace."""

    def __init__(self, store: Store, registry: Registry, folder: Folder, clock_us: Callable[[], int]) -> None:
        self._store = store
        self._registry = registry
        self._folder = folder
        self._clock_us = clock_us

    async def run(self, sent: AsyncIterator[admin_pb.ImportNamespaceRequest], call: Call) -> End:
        """The namespace, data, finish. Whatever ends it before its finish leaves nothing behind."""
        first = await anext(sent, None)
        if first is None or first.WhichOneof("kind") != "namespace":
            raise InvalidArgument.field("namespace", "is expected first")
        check_name(first.namespace, "namespace")
        gate = self._registry.enter(first.namespace, call.identity, write=True)
        try:
            namespace = gate.namespace
            draft = await self._folder.draft_export()
            try:
                end = await self._receive(sent, namespace, draft)
                self._check_quota(namespace, end)

                async def pace(writes: int, _: int) -> None:
                    await self._admitted(namespace, call, writes)

                return await load_file(
                    self._store, namespace, draft.path, clock_us=self._clock_us, pace=pace, free=False
                )
            finally:
                draft.discard()
        finally:
            gate.leave()

    async def _receive(
        self, sent: AsyncIterator[admin_pb.ImportNamespaceRequest], namespace: Namespace, draft: Draft
    ) -> End:
        contents = Contents(self._clock_us(), bound=namespace.settings.binding is not None)
        async for request in sent:
            kind = request.WhichOneof("kind")
            if kind == "finish":
                end = contents.finish()
                if request.finish.sha256 != end.sha256:
                    raise ChecksumMismatch("finish.sha256 is not the checksum of what was sent; nothing was written")
                await draft.flush()
                return end
            if kind != "data":
                raise InvalidArgument.field("data", "or finish is expected here")
            for part in contents.feed(request.data):
                if isinstance(part, Header):
                    _check_mode(part, namespace)
            await draft.write(request.data)
        raise InvalidArgument.field("finish", "is missing: the stream ended before it, and nothing was written")

    def _check_quota(self, namespace: Namespace, end: End) -> None:
        """Raises QuotaExceeded for what could not fit if the namespace were empty."""
        quota = namespace.settings.quota
        for name, limit, needed in (
            ("max_bytes", quota.max_bytes, end.size_bytes),
            ("max_records", quota.max_records, end.records),
        ):
            if limit and needed > limit:
                raise QuotaExceeded(
                    f"the import has {needed}, quota.{name} of the namespace {namespace.name!r} is {limit}; nothing was"
                    " written",
                    metadata={"namespace": namespace.name, "quota": name, "limit": str(limit)},
                )

    async def _admitted(self, namespace: Namespace, call: Call, writes: int) -> None:
        """Charges writes: an import that is too fast for the quota is slowed, not refused."""
        while True:
            try:
                self._registry.charge(namespace, call.identity, write=True, count=writes)
                return
            except QuotaExceeded as error:
                if not error.retry_after_s or error.retry_after_s > call.remaining_s:
                    raise
                await asyncio.sleep(error.retry_after_s)


def _check_mode(header: Header, namespace: Namespace) -> None:
    theirs, ours = header.namespace.settings.mode, namespace.settings.mode
    if theirs is not ours:
        raise ModeMismatch(
            f"the export is of a namespace of mode {theirs.name}, {namespace.name!r} has mode {ours.name}; import it"
            " into one of its own mode",
            metadata={"mode": ours.name},
        )
