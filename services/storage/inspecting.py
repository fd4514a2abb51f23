"""InspectNamespace and RebucketRecords: records that hurt are looked for by bounded reads, and spread.

A small namespace is looked at as a whole; of a large one, runs of records at places spread over it.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from libs.errors.errors import InvalidArgument
from libs.rpc.call import Call
from services.storage import requests
from services.storage.domain import limits
from services.storage.domain.errors import NamespaceNotFound
from services.storage.domain.findings import Finding, Sizes, find, hot, is_hot, is_wide, worst
from services.storage.domain.heat import Heat
from services.storage.domain.namespace import Namespace, check_name
from services.storage.operations.runner import Operations, Progress
from services.storage.registry import Registry
from services.storage.store.interface import Store
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb

REBUCKET: Final = "rebucket"
_PAGE: Final = 250
_SAMPLED: Final = 20_000
_PLACES: Final = 40
_MARGIN_S: Final = 0.5
_FINDINGS: Final = 10
_MAX_FINDINGS: Final = 100
_MAX_RECORDS: Final = 100


class Inspector:
    """Looks at records."""

    def __init__(self, store: Store, registry: Registry, heat: Heat) -> None:
        self._store = store
        self._registry = registry
        self._heat = heat

    async def inspect(self, namespace: Namespace, limit: int, call: Call | None) -> tuple[list[Finding], int]:
        """At most ``limit`` findings of each kind, and how many records were looked at: fewer when the caller's time is
        nearly over."""
        seen: list[Sizes] = []
        found: list[Finding] = []
        count = 0
        usage = await self._store.usage(namespace)
        starts, most = [b""], _SAMPLED
        if usage.records > _SAMPLED:
            starts = [b"", *await self._store.split(namespace, _PLACES)]
            most = _SAMPLED // len(starts)
        for start in starts:
            left = most
            while left > 0 and (call is None or call.remaining_s > _MARGIN_S):
                page = await self._store.profile(namespace, start, min(_PAGE, left))
                seen = [Sizes(*one) for one in page]
                found = worst([*found, *find(seen)], limit)
                count += len(page)
                left -= len(page)
                await asyncio.sleep(0)
                if len(page) < _PAGE:
                    break
                start = page[-1].record + b"\0"
        return worst([*found, *await self._hot(namespace, limit)], limit), count

    async def wide(self, namespace: Namespace) -> list[bytes]:
        """The records that :meth:`inspect` finds wide."""
        found, _ = await self.inspect(namespace, _MAX_FINDINGS, None)
        return list(dict.fromkeys(one.sizes.record for one in found if is_wide(one.sizes)))

    async def _hot(self, namespace: Namespace, limit: int) -> list[Finding]:
        all_per_s = sum(self._registry.rates_per_s(namespace.name))
        found: list[Finding] = []
        for record, per_s in self._heat.hottest(namespace.number)[:limit]:
            if is_hot(per_s, all_per_s):
                page = await self._store.profile(namespace, record, 1)
                there = [Sizes(*one) for one in page if one.record == record]
                found.append(hot(there[0] if there else Sizes(record, 0, 0, 0, 0), per_s, all_per_s))
        return found


class InspectServicer:
    """The two verbs."""

    def __init__(self, registry: Registry, inspector: Inspector, operations: Operations) -> None:
        self._registry = registry
        self._inspector = inspector
        self._operations = operations

    async def InspectNamespace(
        self, request: admin_pb.InspectNamespaceRequest, call: Call
    ) -> admin_pb.InspectNamespaceResponse:
        check_name(request.name, "name")
        limit = requests.bounded(request.limit, _FINDINGS, _MAX_FINDINGS, "limit")
        gate = self._registry.enter(request.name, call.identity, write=False)
        try:
            found, sampled = await self._inspector.inspect(gate.namespace, limit, call)
        finally:
            gate.leave()
        return admin_pb.InspectNamespaceResponse(findings=[_message(one) for one in found], records_sampled=sampled)

    async def RebucketRecords(self, request: admin_pb.RebucketRecordsRequest, call: Call) -> admin_pb.Operation:
        check_name(request.name, "name")
        if len(request.records) > _MAX_RECORDS:
            raise InvalidArgument.field("records", f"at most {_MAX_RECORDS} are allowed")
        for index, record in enumerate(request.records):
            if not 1 <= len(record) <= limits.MAX_RECORD_KEY:
                raise InvalidArgument.field(f"records[{index}]", f"1 to {limits.MAX_RECORD_KEY} bytes are allowed")
        namespace = self._registry.get(request.name)
        namespace.check_access(call.identity, write=True)
        namespace.check_ready()
        arguments = {
            "namespace": request.name,
            "number": str(namespace.number),
            "records": ",".join(record.hex() for record in request.records),
        }
        return await self._operations.begin(REBUCKET, request.name, arguments)


class RebucketJob:
    """Arguments: ``namespace``, its ``number``, and ``records`` in hexadecimal digits (none: the wide ones)."""

    def __init__(self, store: Store, registry: Registry, inspector: Inspector) -> None:
        self._store = store
        self._registry = registry
        self._inspector = inspector

    async def run(self, arguments: Mapping[str, str], progress: Progress) -> admin_pb.RebucketReport:
        """As ``Job.run``. Progress counts records; those that are not there are passed over."""
        namespace = self._registry.get(arguments["namespace"])
        namespace.check_ready()
        if str(namespace.number) != arguments["number"]:
            raise NamespaceNotFound.named(namespace.name)
        records = [bytes.fromhex(word) for word in arguments["records"].split(",") if word]
        records = records or await self._inspector.wide(namespace)
        report = admin_pb.RebucketReport()
        for done, record in enumerate(records):
            progress.told(done, len(records))
            buckets = await self._store.rebucket(namespace, record)
            if buckets is not None:
                report.records += 1
                report.buckets_before += buckets[0]
                report.buckets_after += buckets[1]
        progress.told(len(records), len(records))
        return report

    async def undo(self, arguments: Mapping[str, str], progress: Progress) -> None:
        """As ``Job.undo``: a record that was spread reads as before, and stays so."""


def _message(found: Finding) -> admin_pb.InspectNamespaceResponse.Finding:
    sizes = found.sizes
    return admin_pb.InspectNamespaceResponse.Finding(
        kind=found.kind.value,  # type: ignore[arg-type]  # the numbers are the contract's
        record=sizes.record,
        items=sizes.items,
        bytes=sizes.size_bytes,
        tombstones=sizes.tombstones,
        requests_per_s=found.requests_per_s,
        advice=found.advice,
    )
