"""MirrorNamespace: a namespace copied onto another backend, kept up with, and compared by reads of both.

1. The feed's end is noted, then everything is copied, versions and all.
2. What the feed has told since is made the same, record by record; what the mirror has and the namespace has not, goes.
3. Records are read on both sides, a share of them chosen by chance. One that differs although the namespace did not
   change, and although the feed was followed to its end once more, is a difference.

Only a namespace that a mirror made is written to; run again, it goes on from what is there.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from libs.errors.errors import InvalidArgument
from libs.rpc.call import Call
from services.storage.backup.loading import load_parts
from services.storage.domain.copying import Copied
from services.storage.domain.errors import NamespaceExists, NamespaceNotFound
from services.storage.domain.namespace import Namespace, check_name
from services.storage.mirrors import Mirrors
from services.storage.operations.runner import Operations, Progress
from services.storage.registry import Registry
from services.storage.store.interface import Store
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb

MIRROR: Final = "mirror"
_KIND: Final = "mirror"
_EVENTS: Final = 200
_RECORDS: Final = 50
"""Records compared at once."""
_TOLD: Final = 1000
"""Differences in the report."""
_TRIES: Final = 5
_Items = dict[bytes, list[Copied]]


class MirrorJob:
    """Arguments: ``namespace``, its ``number``, the ``backend``, and the ``share`` of records to be compared."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        mirrors: Mirrors,
        clock_us: Callable[[], int],
        chance: Callable[[], float],
    ) -> None:
        """``chance`` gives a random number of [0, 1)."""
        self._store = store
        self._registry = registry
        self._mirrors = mirrors
        self._clock_us = clock_us
        self._chance = chance

    async def run(self, arguments: Mapping[str, str], progress: Progress) -> admin_pb.MirrorReport:
        """As ``Job.run``. Progress counts records: those copied, then those compared."""
        space = self._registry.get(arguments["namespace"])
        space.check_ready()
        if str(space.number) != arguments["number"]:
            raise NamespaceNotFound.named(space.name)
        target = await self._mirrors.open(arguments["backend"])
        copy = _Mirror(self._store, space, target, await self._made(target, space), self._clock_us, progress)
        await copy.fill()
        await copy.prune()
        await copy.follow()
        share = float(arguments["share"])
        return await copy.compare(lambda: self._chance() < share)

    async def undo(self, arguments: Mapping[str, str], progress: Progress) -> None:
        """As ``Job.undo``: what was copied stays, and is gone on from by the next mirror."""

    async def _made(self, target: Store, space: Namespace) -> Namespace:
        """The namespace on the other backend. Raises NamespaceExists for one that no mirror of this one made."""
        mark = json.dumps({"number": space.number, "create_us": space.create_us}).encode()
        there = next((one for one in await target.namespaces() if one.name == space.name), None)
        if there is None:
            await target.put_document(_KIND, space.name, mark)
            return await target.create_namespace(space.settings, self._clock_us())
        if await target.document(_KIND, space.name) != mark:
            raise NamespaceExists(
                f"the other backend has a namespace {space.name!r} that is no mirror of this one; it is left alone"
            )
        return there


class _Mirror:
    """One run over one namespace."""

    def __init__(
        self,
        store: Store,
        space: Namespace,
        target: Store,
        there: Namespace,
        clock_us: Callable[[], int],
        progress: Progress,
    ) -> None:
        self._store = store
        self._space = space
        self._target = target
        self._there = there
        self._clock_us = clock_us
        self._progress = progress
        self._cursor = b""
        self._records = 0

    async def fill(self) -> None:
        """Copies everything."""
        self._cursor = await self._store.feed_start(self._space, from_beginning=False)
        usage = await self._store.usage(self._space)

        async def pace(_: int, done: int) -> None:
            self._progress.told(min(done, usage.records), usage.records)

        await self._load(self._store.copy(self._space), pace)

    async def prune(self) -> None:
        """Removes what the mirror has and the namespace has not: left by an earlier run, and deleted since."""
        async for records in _keys(self._target.copy(self._there)):
            await self._make_same(records)

    async def follow(self) -> None:
        """Makes the same what the feed has told, to its end."""
        while True:
            page = await self._store.feed(self._space, self._cursor, _EVENTS)
            await self._make_same(list(dict.fromkeys(event.record for event in page.events)))
            self._cursor = page.cursor
            if not page.more:
                return

    async def compare(self, chosen: Callable[[], bool]) -> admin_pb.MirrorReport:
        """Reads the records that are ``chosen`` on both sides."""
        report = admin_pb.MirrorReport()
        async for records in _keys(self._store.copy(self._space)):
            await self._compare([record for record in records if chosen()], report)
        async for records in _keys(self._target.copy(self._there)):
            known = await _items(self._store, self._space, records)
            await self._compare([record for record in records if record not in known and chosen()], report)
        await self.follow()
        return report

    async def _compare(self, records: Sequence[bytes], report: admin_pb.MirrorReport) -> None:
        """Compares some records; those that differ once more, when the feed was followed."""
        left = list(records)
        for attempt in range(_TRIES):
            if not left:
                break
            if attempt:
                await self.follow()
            before = await _items(self._store, self._space, left)
            mirrored = await _items(self._target, self._there, left)
            after = await _items(self._store, self._space, left)
            moving = [one for one in left if before.get(one) != after.get(one)]
            differing = [one for one in left if one not in moving and after.get(one) != mirrored.get(one)]
            if attempt and differing:
                for record in differing:
                    _tell(report, record, after.get(record, []), mirrored.get(record, []))
                differing = []
            left = moving + differing
        # A record that changes with every look was never seen at rest: it is not compared.
        report.compared += len(records) - len(left)
        self._records += len(records)
        self._progress.told(self._records)

    async def _make_same(self, records: Sequence[bytes]) -> None:
        """Writes into the mirror what ``records`` are now, and removes from it what they have no more."""
        if not records:
            return
        ours = await _items(self._store, self._space, records)
        theirs = await _items(self._target, self._there, records)
        gone: list[Copied] = []
        for record, items in theirs.items():
            kept = {item.put.key for item in ours.get(record, [])}
            # A plain delete removes an ordered item whatever its own version, and shall hold off nothing else.
            gone += [
                item._replace(gone=True, version=bytes(16) if item.ordered else item.version)
                for item in items
                if item.put.key not in kept
            ]
        if gone:
            await self._target.load(self._there, gone, free=True)
        wanted = [record for record, items in ours.items() if items != theirs.get(record)]
        if wanted:
            await self._load(self._store.copy(self._space, wanted), self._pace)

    async def _pace(self, _: int, __: int) -> None:
        self._progress.told(self._records)

    async def _load(self, parts: AsyncIterator[Copied | bytes], pace: Callable[[int, int], object]) -> None:
        await load_parts(
            self._target,
            self._there,
            parts,
            clock_us=self._clock_us,
            pace=pace,  # type: ignore[arg-type]  # one of the coroutine functions above
            free=True,
        )


class MirrorServicer:
    """The verb."""

    def __init__(self, registry: Registry, operations: Operations, mirrors: Mirrors) -> None:
        self._registry = registry
        self._operations = operations
        self._mirrors = mirrors

    async def MirrorNamespace(self, request: admin_pb.MirrorNamespaceRequest, call: Call) -> admin_pb.Operation:
        check_name(request.name, "name")
        if request.target_backend not in self._mirrors.names:
            known = ", ".join(self._mirrors.names) or "none"
            raise InvalidArgument.field(
                "target_backend",
                f"is {request.target_backend[:80]!r}; the configuration names as mirrors: {known}",
            )
        if not 0 <= request.shadow_read_share <= 1:
            raise InvalidArgument.field("shadow_read_share", f"is {request.shadow_read_share:g}; 0 to 1 is allowed")
        namespace = self._registry.get(request.name)
        namespace.check_access(call.identity, write=False)
        namespace.check_ready()
        arguments = {
            "namespace": request.name,
            "number": str(namespace.number),
            "backend": request.target_backend,
            "share": repr(request.shadow_read_share),
        }
        return await self._operations.begin(MIRROR, request.name, arguments)


async def _keys(parts: AsyncIterator[Copied | bytes]) -> AsyncIterator[list[bytes]]:
    """The records of a copy, some at a time."""
    some: list[bytes] = []
    async for part in parts:
        if isinstance(part, Copied) and (not some or some[-1] != part.record):
            if len(some) == _RECORDS:
                yield some
                some = []
            some.append(part.record)
    if some:
        yield some


async def _items(store: Store, space: Namespace, records: Sequence[bytes]) -> _Items:
    """The items of records, as far as two stores can have them the same: when each wrote them, and its manifests, are
    its own."""
    found: _Items = {}
    if records:
        async for part in store.copy(space, records):
            if isinstance(part, Copied):
                found.setdefault(part.record, []).append(part._replace(record_version=b"", write_us=0))
    return found


def _tell(report: admin_pb.MirrorReport, record: bytes, ours: Sequence[Copied], theirs: Sequence[Copied]) -> None:
    report.different += 1
    mine, other = ({item.put.key: item for item in items} for items in (ours, theirs))
    for key in sorted(mine.keys() | other.keys()):
        if mine.get(key) != other.get(key) and len(report.differences) < _TOLD:
            what = "only in the namespace" if key not in other else "only in the mirror" if key not in mine else "other"
            report.differences.add(record=record, item_key=key, what=what)
