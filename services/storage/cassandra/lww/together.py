"""Puts that are alike, each of a record of its own, as one step: read together, decided by one run of the engine,
announced together, written by few requests, settled together.

Alike are puts of one item of the same key (``likeness.py``): under one token, as ``PutMany`` makes them, or each under
its own. Each record is still for itself: its cells go all or none of them, and it succeeds or fails whatever becomes of
the others. A record that takes more than its own cells to decide on is left to a step of its own.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from typing import Any, Final

from libs.cassandra.errors import unknown
from libs.cassandra.session import LOCAL_QUORUM
from libs.errors.errors import WellspringError
from services.storage.cassandra.accounts import Standing
from services.storage.cassandra.commit import Change, late
from services.storage.cassandra.family import Op
from services.storage.cassandra.lanes import BESIDE_BYTES, Intent, Lane, row_bytes
from services.storage.cassandra.layout import feed_slot, record_key
from services.storage.cassandra.lww.burial import QUIET_US
from services.storage.cassandra.lww.likeness import MOST
from services.storage.cassandra.lww.record import LwwPartition, parsed
from services.storage.cassandra.lww.settling import Happened
from services.storage.cassandra.lww.steps import LwwSteps, Tools
from services.storage.cassandra.lww.writing import Writes, Writing
from services.storage.cassandra.partition import HEAD, ITEMS, Loaded, NotLoaded, Place, Range, Rows
from services.storage.cassandra.view import View, split
from services.storage.cassandra.wanted import token_row
from services.storage.domain.model import NO_VERSION, Receipt
from services.storage.domain.namespace import Namespace
from services.storage.store import layout as keys
from services.storage.store.families import Families
from services.storage.store.interface import Write
from services.storage.store.ledger import Account, Ledger

_FEW: Final = 16
"""Records whose items are read by one request: of 1 MiB each at most."""
_TRIES: Final = 3
"""Runs of the engine until all that is left is left to steps of their own."""
_FULL: Final = 0.98
"""How far a request fills what the nodes allow: another release may count a little more."""
_RECORD_BYTES: Final = 29
_ROW_BYTES: Final = (42, 42, 54, 74)
"""What Cassandra 5 counts towards ``batch_size_warn_threshold`` beside keys of rows and bytes of cells: of a partition
(not its own key), and of a row of which none, one, two or three values are bytes: one cell, one of a map, both.
"""
_INDEX_BYTES: Final = 40
"""The same for a row of the index, of which several are in a partition: about."""
_NAME_BYTES: Final = 4
"""What the row of several changes has of each beside its record's key and its token."""

_UNSEEN_US: Final = QUIET_US // 4
"""A record's own cell stays for ``QUIET_US`` after its last change, and a token is taken until a clock drift after its
time, from a clock drift before it on. Where that is not more than this, a record without its own cell has never seen a
token that is still taken."""

Result = Receipt | WellspringError | None
Decide = Callable[[View, Sequence[Write]], Awaitable[list[Receipt | WellspringError]]]
RowsOf = Callable[[Sequence[LwwPartition]], list[tuple[int, bytes]]]
ViewOf = Callable[[Loaded, Sequence[tuple[Namespace, Account]]], View]


@dataclasses.dataclass(slots=True)
class _Part:
    """What the step does to one record; ``index`` is that of its write. ``error``: why it did not happen."""

    index: int
    partition: LwwPartition
    change: Change
    writing: Writing
    announced: "asyncio.Future[Intent] | None" = None
    intent: Intent | None = None
    error: WellspringError | None = None
    writes: Writes = dataclasses.field(default_factory=list)

    @property
    def token(self) -> bytes:
        """The key under which it is remembered what was put."""
        assert self.change.token is not None, "a put is remembered"
        return self.change.token[0]


class LwwTogether:
    """Runs such steps."""

    def __init__(self, tools: Tools, steps: LwwSteps) -> None:
        self._tools = tools
        self._steps = steps
        self._read = tools.statements.read
        self._write = tools.statements.write
        self._bytes = int(tools.limits.bytes * _FULL)

    async def change(
        self, space: Namespace, writes: Sequence[Write], decide: Decide, view_of: ViewOf, standing: Standing, lane: Lane
    ) -> list[Result]:
        """What became of each of the writes, which are alike; None of one that takes a step of its own. Raises
        Unavailable: nothing was written."""
        tools, loaded = self._tools, Loaded()
        begun_s = tools.monotonic_s()
        places = [(space.number, write.command.record) for write in writes]
        shared = len({token_row(write.command) for write in writes}) == 1
        partitions = await self._load(writes, places, loaded, shared=shared)
        results: list[Result] = [None] * len(writes)
        left = [index for index, one in enumerate(partitions) if not one.ranges and one.note is None]
        for _ in range(_TRIES):
            if not left:
                return results
            floor = max(partitions[index].stamp for index in left)
            before = standing.account(floor, tools.clock_us(), NO_VERSION, many=len(left))
            view = view_of(loaded, [(space, before)])
            try:
                decided = await decide(view, [writes[index] for index in left])
                break
            except NotLoaded as missing:
                alone = missing.need.place if isinstance(missing.need, Rows | Range) else None
                left = [index for index in left if alone is not None and places[index] != alone]
        else:
            return results
        after = Ledger(Families(view)).account(space.number)
        for index, result in zip(left, decided, strict=True):
            results[index] = result
        parts, dues = self._parts(view.ops, before.sequence, [(index, partitions[index]) for index in left], results)
        await self._commit(parts, dues, lane)
        _uncount(after, [part for part in parts if part.error is not None])
        standing.add(before, after)
        slow = tools.monotonic_s() - begun_s > tools.patience_s / 2
        happened: list[Happened] = []
        for part in parts:
            if part.error is not None:
                results[part.index] = part.error
            elif part.intent is not None and part.change.event is not None:
                if slow:
                    await late(self._steps.tell(standing, lane, part.partition.place[1], part.change.event))
                happened.append((part.intent, part.change.event))
        self._settle(happened, lane)
        standing.wake()
        return results

    # What there is

    async def _load(
        self, writes: Sequence[Write], places: Sequence[Place], loaded: Loaded, *, shared: bool
    ) -> list[LwwPartition]:
        """The records' own cells and the ``shared`` token's; then, of those that are there, the item's. Tokens that are
        not shared are read with these: they are not there where the record is not, unless they are taken for long."""
        command, loader = writes[0].command, self._steps.loader
        partitions = [loader.partition(place, loaded) for place in places]
        tokens = (
            {} if shared else {place: token_row(write.command) for place, write in zip(places, writes, strict=True)}
        )
        unseen = writes[0].namespace.settings.max_clock_drift_us <= _UNSEEN_US
        own = list(dict.fromkeys([(ITEMS, b""), (ITEMS, command.puts[0].key)]))
        first = [(HEAD, b""), *([token_row(command)] if shared else [])]
        await self._cells(partitions, lambda _: first, MOST)
        there = []
        for partition in partitions:
            if partition.note is None and (partition.head_cell is not None or not (shared or unseen)):
                there.append(partition)
            elif not shared and partition.head_cell is None:
                loader.take(partition, (), [tokens[partition.place]])
        await self._cells(there, lambda some: own if shared else [*own, *(tokens[one.place] for one in some)], _FEW)
        now_us = self._tools.clock_us()
        for partition in partitions:
            partition.derive(now_us)
        return partitions

    async def _cells(self, partitions: Sequence[LwwPartition], rows: RowsOf, many: int) -> None:
        """Reads ``rows`` of so ``many`` records by one request each."""
        near: dict[Any, list[LwwPartition]] = {}
        for partition in partitions:
            near.setdefault(self._replicas(partition), []).append(partition)
        pieces = [some[first : first + many] for some in near.values() for first in range(0, len(some), many)]
        await _all([self._cells_of(piece, rows(piece)) for piece in pieces])

    async def _cells_of(self, partitions: Sequence[LwwPartition], rows: list[tuple[int, bytes]]) -> None:
        found: dict[bytes, list[Any]] = {partition.place[1]: [] for partition in partitions}
        number, record = partitions[0].place
        answer = await self._tools.session.execute(
            self._read["lww_many"], (number, list(found), rows), LOCAL_QUORUM, key=record_key(number, record)
        )
        for name, *row in answer:
            found[name].append(row)
        loader = self._steps.loader
        for partition in partitions:
            loader.take(partition, await loader.checked(partition.place, found[partition.place[1]]), rows)

    # What is done

    def _parts(
        self, ops: Sequence[Op], base: int, decided: Sequence[tuple[int, LwwPartition]], results: list[Result]
    ) -> tuple[list[_Part], list[bytes]]:
        """The step's writes by record, and its entries for the sweeper. What is too big becomes an error."""
        tools, dues = self._tools, []
        of: dict[Place, list[Op]] = {partition.place: [] for _, partition in decided}
        events: dict[int, Op] = {}
        for op in ops:
            family, key, _ = op
            if family == "feed":
                events[keys.feed_sequence(key)] = op
            elif family == "due":
                dues.append(key)
            elif family != "meta":
                of[_place(family, key)].append(op)
        parts = []
        for index, partition in decided:
            result, mine = results[index], of[partition.place]
            if not mine or not isinstance(result, Receipt):
                continue
            # Without a change it has no sequence of its own, and needs none: no other writes this record now.
            sequence = result.sequence or base + 1
            change = Change([*mine, *([events[sequence]] if result.sequence else [])], sequence)
            try:
                change.check_size()
            except WellspringError as error:
                results[index] = error
                continue
            writing = Writing(change, partition, self._write, tools.clock_us(), tools.token_ttl_s)
            writing.cells()
            dues += writing.dues
            parts.append(_Part(index, partition, change, writing))
        return parts, dues

    async def _commit(self, parts: Sequence[_Part], dues: list[bytes], lane: Lane) -> None:
        """Makes them durable; notes in each what kept it from that."""
        found_by = self._announce(parts, lane)
        try:
            await self._prepare(parts, dues, found_by, lane)
            for part in parts:
                if part.error is None:
                    part.writes = part.writing.batch(part.intent)
            ready = [part for part in parts if part.error is None]
            await _all([self._send(some, lane) for some in self._requests(ready)])
        finally:
            for part in parts:
                if part.intent is not None:
                    lane.done(part.intent)

    def _announce(self, parts: Sequence[_Part], lane: Lane) -> Writes:
        """Announces the changes: by one row when their sequences follow one another and lie in one slot. The rows by
        which records are found go with it, as many as there is room for; the others are the result."""
        found_by = [write for part in parts for write in self._steps.found_by(part.change, part.partition)]
        some = [part for part in parts if part.change.event is not None]
        if not some:
            return found_by
        first, last = some[0].change.sequence, some[-1].change.sequence
        if len(some) == last - first + 1 > 1 and feed_slot(first) == feed_slot(last):
            tokens = [part.token for part in some]
            if len(set(tokens)) == 1:
                del tokens[1:]
            names = [part.partition.place[1] for part in some]
            beside = _room(found_by, BESIDE_BYTES - row_bytes((*names, *tokens)) - _NAME_BYTES * len(names))
            announced = lane.announce_many(last, names, tokens, found_by[:beside])
            del found_by[:beside]
            for part in some:
                part.announced = announced
        else:
            for part in some:
                part.announced = lane.announce(part.change.sequence, part.partition.place[1], (), part.token)
        return found_by

    async def _prepare(self, parts: Sequence[_Part], dues: list[bytes], found_by: Writes, lane: Lane) -> None:
        """What may be there for nothing."""
        tools = self._tools
        work: list[Any] = [tools.dues.enter(dues)] if dues else []
        work += [tools.session.batch(some, LOCAL_QUORUM) for some in _requests(found_by, self._bytes)]
        announced = [part.announced for part in parts if part.announced is not None]
        # Intents are written in order: with the last one all have been, each well or not.
        written = asyncio.gather(*(lane.write(one) for one in announced[-1:]), return_exceptions=True)
        failed = [one for one in await asyncio.gather(*work, return_exceptions=True) if isinstance(one, BaseException)]
        await written
        for part in parts:
            if part.announced is not None:
                wrong = part.announced.exception()
                if wrong is None:
                    intent = part.announced.result()
                    part.intent = intent._replace(sequence=part.change.sequence, token=part.token)
                elif isinstance(wrong, WellspringError):
                    part.error = wrong
                else:
                    raise wrong
        if failed:
            await self._void(parts, lane)
            raise failed[0]

    async def _void(self, parts: Sequence[_Part], lane: Lane) -> None:
        """Nothing of what was announced will happen."""
        for part in parts:
            if part.intent is not None:
                await late(lane.void(part.intent))
                lane.forget(part.intent)

    def _requests(self, parts: Sequence[_Part]) -> list[list[_Part]]:
        """The parts that are written by one request each."""
        requests: list[list[_Part]] = []
        filling: dict[Any, tuple[list[_Part], int]] = {}
        for part in parts:
            near = self._replicas(part.partition)
            some, size = filling.get(near, ([], 0))
            more = _size(part.writes)
            if some and size + more <= self._bytes and len(some) < self._tools.limits.partitions:
                some.append(part)
                filling[near] = some, size + more
            else:
                requests.append([part])
                filling[near] = requests[-1], more
        return requests

    async def _send(self, parts: Sequence[_Part], lane: Lane) -> None:
        """Writes parts by one request; when that is not answered well, each by a request of its own."""
        tried: WellspringError | None = None
        if len(parts) > 1:
            try:
                await self._tools.session.batch([one for part in parts for one in part.writes], LOCAL_QUORUM)
                return
            except WellspringError as error:
                tried = error
        for part in parts:
            try:
                # What a request for many has begun may still happen: then nothing is void.
                await self._steps.send(part.writes, lane, part.intent if tried is None else None)
            except WellspringError as error:
                part.error = error if tried is None else unknown()

    def _settle(self, happened: Sequence[Happened], lane: Lane) -> None:
        settling = self._steps.settling(lane)
        if happened and happened[0][0].row:
            settling.add(happened)
        else:
            for one in happened:
                settling.add([one])

    def _replicas(self, partition: LwwPartition) -> Hashable:
        if partition.replicas is None:
            partition.replicas = self._tools.session.replicas(record_key(*partition.place))
        return partition.replicas


def _room(writes: Writes, most: int) -> int:
    """How many of the first writes fit into so many bytes."""
    for count, (_, values) in enumerate(writes):
        most -= row_bytes(values)
        if most < 0:
            return count
    return len(writes)


async def _all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Awaits all of it: one alone needs no task."""
    if len(work) == 1:
        await work[0]
    elif work:
        await asyncio.gather(*work)


def _requests(writes: Writes, most: int) -> list[Writes]:
    """Small writes of few partitions, so many a request as ``most`` bytes hold."""
    requests: list[Writes] = []
    size = most
    for write in writes:
        more = _INDEX_BYTES + sum([len(value) for value in write[1] if isinstance(value, bytes)])
        if size + more > most:
            requests.append([])
            size = 0
        requests[-1].append(write)
        size += more
    return requests


def _size(writes: Writes) -> int:
    """Of one record's rows, as Cassandra counts them. The values of a write end with the place of its row."""
    size = _RECORD_BYTES
    for _, values in writes:
        cells = [len(value) for value in values[:-4] if isinstance(value, bytes)]
        size += _ROW_BYTES[len(cells)] + len(values[-1]) + sum(cells)
    return size


def _place(family: str, key: bytes) -> Place:
    """The record to which a row of the engine belongs."""
    number = int.from_bytes(key[:4], "big")
    if family in ("records", "samples"):
        return number, key[4:]
    if family == "tokens":
        return number, key[28:]
    return split(key)[0]


def _uncount(after: Account, failed: Sequence[_Part]) -> None:
    """Takes out of what a namespace holds what records would have added that were not written."""
    for part in failed:
        if part.change.has_head:
            place = part.partition.place
            before, then = parsed(place, part.partition.head), parsed(place, part.change.head)
            after.records -= (then.items_count > 0) - (before.items_count > 0)
            after.items -= then.items_count - before.items_count
            after.size -= then.size - before.size
