"""Tells propagation how often pages are read, so that those read most are rendered first and the share of fresh reads
is known.

A report that cannot be delivered is counted and forgotten: heat is of the moment, and readers never wait for it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from libs.telemetry.logs import fields
from services.gateway.domain.reads import ReadCounts, Tally
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed
from wellspring_client.errors import WellspringError

logger = logging.getLogger(__name__)

REPORT_BYTES = 1 << 20
"""Of names in one report: a quarter of what a message may have."""


class Work(Protocol):
    """The engine's side of it. Raises the SDK's errors."""

    def report_reads(self, request: work_pb2.ReportReadsRequest) -> Awaitable[work_pb2.ReportReadsResponse]: ...


@dataclass(slots=True)
class ReadReporter:
    """Sends what was counted every `interval_s`. `reported` and `lost` are reads since the start."""

    work: Work
    counts: ReadCounts
    interval_s: float
    reported: int = 0
    lost: int = 0
    failures: int = 0
    _failing: bool = field(default=False)

    async def run(self) -> None:
        """Reports until it is cancelled."""
        while True:
            await asyncio.sleep(self.interval_s)
            await self.report()

    async def report(self) -> None:
        """Sends what was counted since the last time."""
        for view, tallies in self.counts.take().items():
            for part in _parts(tallies):
                reads = sum(tally.reads for tally in part.values())
                try:
                    await self.work.report_reads(_request(view, part))
                except WellspringError as error:
                    self.lost += reads
                    self._failed(view, error)
                else:
                    self.reported += reads
                    self._failing = False

    def _failed(self, view: str, error: WellspringError) -> None:
        self.failures += 1
        if not self._failing:
            # Once for each time that it stops working; the metric has the rest.
            logger.warning("reads are not reported", extra=fields(view=view, reason=error.reason))
            self._failing = True


def _parts(tallies: Mapping[str, Tally]) -> Iterator[dict[str, Tally]]:
    part: dict[str, Tally] = {}
    size = 0
    for name, tally in tallies.items():
        size += len(name.encode()) + 9  # the NUL and two counts
        if part and size > REPORT_BYTES:
            yield part
            part, size = {}, len(name.encode()) + 9
        part[name] = tally
    if part:
        yield part


def _request(view: str, tallies: Mapping[str, Tally]) -> work_pb2.ReportReadsRequest:
    return work_pb2.ReportReadsRequest(
        view=view,
        names=packed.encode_names(list(tallies)),
        reads=packed.encode_counts([tally.reads for tally in tallies.values()]),
        fresh=packed.encode_counts([tally.fresh for tally in tallies.values()]),
    )
