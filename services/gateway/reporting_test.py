"""Reports of reads: what is told, in how many parts, and what happens while nobody listens."""

import asyncio
import logging

from services.gateway.domain.reads import ReadCounts
from services.gateway.reporting import REPORT_BYTES, ReadReporter
from wellspring_client import packed
from wellspring_client.errors import Unavailable


class Engine:
    def __init__(self):
        self.requests, self.up, self.asked = [], True, asyncio.Queue()

    async def report_reads(self, request):
        self.asked.put_nowait(request)
        if not self.up:
            raise Unavailable("the engine is away")
        self.requests.append(request)


def reported(test):
    async def main():
        engine, counts = Engine(), ReadCounts()
        reporter = ReadReporter(engine, counts, 0.001)
        await test(engine, counts, reporter)

    asyncio.run(main())


def test_names_reads_and_fresh_ones_belong_together():
    async def test(engine, counts, reporter):
        for name, fresh in [("a", True), ("ü", False), ("a", False), ("a", True)]:
            counts.count("html", name, fresh)
        counts.count("summary", "a", True)
        await reporter.report()
        html, summary = engine.requests
        assert html.view == "html" and packed.decode_names(html.names) == ["a", "ü"]
        assert packed.decode_counts(html.reads).tolist() == [3, 1]
        assert packed.decode_counts(html.fresh).tolist() == [2, 0]
        assert summary.view == "summary" and reporter.reported == 5
        await reporter.report()
        assert len(engine.requests) == 2

    reported(test)


def test_long_names_go_in_several_reports_none_of_them_too_big():
    async def test(engine, counts, reporter):
        for number in range(4000):
            counts.count("html", f"{number:01000d}", True)
        await reporter.report()
        assert len(engine.requests) == 4 and all(len(r.names) <= REPORT_BYTES for r in engine.requests)
        assert sum(len(packed.decode_names(r.names)) for r in engine.requests) == 4000

    reported(test)


def test_an_engine_that_is_away_costs_the_report_and_nothing_else(caplog):
    async def test(engine, counts, reporter):
        task = asyncio.create_task(reporter.run())
        engine.up = False
        for _ in range(3):
            counts.count("html", "a", True)
            await engine.asked.get()
        await asyncio.sleep(0)
        assert (reporter.lost, reporter.failures, reporter.reported) == (3, 3, 0) and not task.done()
        engine.up = True
        counts.count("html", "a", True)
        await engine.asked.get()
        assert reporter.lost == 3 and packed.decode_counts(engine.requests[0].reads).tolist() == [1]
        task.cancel()

    with caplog.at_level(logging.WARNING):
        reported(test)
    assert [record.message for record in caplog.records] == ["reads are not reported"]
