"""Tells the engine what became of slices: one request for all that has ended while the last one was under way, or for
a second where it is answered so late: of several engines one may stand still, and the others are told meanwhile.

A request costs the engine as much as two hundred pages in it, so small slices are gathered for a moment while more of
them are on their way. First turns are told at once.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from libs.telemetry.logs import fields
from services.propagation.executor.completion import completion_of, released
from services.propagation.executor.pages import Item
from services.propagation.executor.ports import Work
from services.propagation.executor.slices import Report
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import WellspringError

logger = logging.getLogger(__name__)

_MOST_TOGETHER = 64
"""Of reports in one request: 4 MiB hold that many slices with long lists of dependencies."""
GATHER_ITEMS = 800
GATHER_S = 0.04
LATE_S = 1.0
"""A request that is not answered then is waited for beside the next ones."""


@dataclass(slots=True)
class Counters:
    """Since the start. `withheld` went back untried; `refused` are completions that the engine did not take."""

    done: int = 0
    changed: int = 0
    failed: int = 0
    saw_older: int = 0
    withheld: int = 0
    refused: int = 0


@dataclass(slots=True)
class _Told:
    batch: work_pb2.Batch
    report: Report
    after: Callable[[], None]


class Completer:
    """`after` of each report is called when the engine has answered, or could not be asked."""

    def __init__(self, work: Work, counters: Counters) -> None:
        self._work = work
        self._counters = counters
        # As long as the slices under way: each waits for its answer before its batch makes room for another.
        self._waiting: list[_Told] = []
        self._items = 0
        self._wake = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._group: asyncio.TaskGroup | None = None

    def tell(
        self,
        batch: work_pb2.Batch,
        report: Report,
        after: Callable[[], None],
        *,
        first: bool = False,
        more: bool = False,
    ) -> None:
        """Has the report sent. `first`: at once, beside what is under way. `more`: others will follow soon."""
        told = _Told(batch, report, after)
        if first and self._group is not None:
            self._group.create_task(self._tell([told]))
            return
        self._waiting.append(told)
        self._items += len(report.done)
        if not more or self._items >= GATHER_ITEMS:
            self._wake.set()
        elif self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(GATHER_S, self._wake.set)

    async def give_back(self, batch: work_pb2.Batch, items: list[Item]) -> None:
        """Returns items untouched, at once."""
        await self._send([released(batch, items)], [])

    async def run(self) -> None:
        """Sends until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._alarm is not None:
                    self._alarm.cancel()
                    self._alarm = None
                self._items = 0
                while self._waiting:
                    taken, self._waiting = self._waiting[:_MOST_TOGETHER], self._waiting[_MOST_TOGETHER:]
                    await asyncio.wait([group.create_task(self._tell(taken))], timeout=LATE_S)

    async def _tell(self, taken: list[_Told]) -> None:
        # The numbers of leases begin anew with each life of the engine: only both together name one.
        by_lease: dict[tuple[int, int], list[_Told]] = {}
        for told in taken:
            by_lease.setdefault((told.batch.lease_id, told.batch.fencing), []).append(told)
        groups = list(by_lease.values())
        completions = [completion_of(group[0].batch, [one.report for one in group]) for group in groups]
        try:
            await self._send(completions, groups)
        finally:
            for told in taken:
                told.after()

    async def _send(self, completions: list[work_pb2.Completion], groups: list[list[_Told]]) -> None:
        """What cannot be told is leased again by the engine when the lease ends."""
        counters = self._counters
        try:
            response = await self._work.complete(work_pb2.CompleteRequest(completions=completions))
        except WellspringError as error:
            logger.warning("completions not taken", extra=fields(count=len(completions), reason=error.reason))
            counters.refused += len(completions)
            return
        for at, result in enumerate(response.results):
            if result.status.code:
                lease = completions[at].lease_id
                logger.info("completion refused", extra=fields(lease=lease, why=result.status.message))
                counters.refused += 1
                continue
            for told in groups[at] if groups else ():
                counters.done += len(told.report.done)
                counters.changed += told.report.changed
                counters.failed += len(told.report.failed)
                counters.saw_older += len(told.report.saw_older)
