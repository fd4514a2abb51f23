"""For tests: a site that is swept, with executors at work beside the sweep, on a virtual clock."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

from libs.clock.virtual import VirtualClock
from services.propagation.auditor.auditor import Auditor, Outside, SweepOptions
from services.propagation.auditor.fakes import FakeSite
from services.propagation.auditor.sampling import SamplingOptions
from services.propagation.auditor.state import StateDirectory
from services.propagation.auditor.turn import Turn
from services.propagation.executor.hashing import output_hash


class Swept:
    """A site of `count` pages, and auditors over one state directory; `start` is a new process."""

    def __init__(self, clock: VirtualClock, path: Path, count: int = 250, **options: Any) -> None:
        self.clock = clock
        self.path = path
        self.site = FakeSite(clock)
        self.options = options
        for n in range(count):
            self.site.edit(f"P{n:03}", f"page {n}".encode())
        self.site.renders = 0
        self.told: list[Turn] = []
        self.state: StateDirectory | None = None
        self.start()

    def start(self, tell: Callable[[Turn], None] | None = None) -> None:
        """A new process; `tell` hears of each part."""
        if self.state is not None:
            self.state.close()
        self.state = StateDirectory(self.path).open()
        rng = Random(11)  # noqa: S311  a test
        self.auditor = Auditor(
            Outside(
                self.site.engine,
                self.site.pages,
                self.site.caches,
                self.clock,
                rng,
                lambda: f"{rng.random()}",
                self.state,
            ),
            SamplingOptions(0.0, (10.0,), 0.0),
            SweepOptions(
                self.options.get("pages_per_s", 10.0), self.options.get("pause_s", 60.0), self.options.get("share", 1.0)
            ),
            repair=self.options.get("repair", True),
            tell=tell or self.told.append,
        )
        self.sweeper = self.auditor.sweeper

    async def turn(self) -> Turn:
        """One turn, with executors at work beside it; the pages that it repaired, and all that was found."""

        async def work() -> None:
            while True:
                await self.clock.sleep(0.5)
                self.site.work()

        executors = asyncio.create_task(work())
        try:
            turn = await self.sweeper.one_turn()
        finally:
            executors.cancel()
            await asyncio.gather(executors, return_exceptions=True)
        self.site.work()
        return turn

    def equal(self) -> bool:
        """Whether store and caches are what the engine believes."""
        for (_, resource), output in self.site.engine.known.items():
            name = resource.removeprefix("w/page/")
            item = self.site.pages.items.get(self.site.place(name))
            body = self.site.sources.get(resource)
            assert not output.state and (item is None) == (body is None), resource
            if item is not None:
                assert item[1] == body and output_hash(body, "text/html", ("renderers-own",)) == output.hash
                for cache in self.site.caches:
                    assert cache.serve(f"/wiki/{name}") == item[0], (cache.name, name)
        return True


def swept(tmp_path: Path, test: Callable[[Swept], Awaitable[None]], **options: Any) -> None:
    """Runs a test on a world of its own."""
    clock = VirtualClock()

    async def main() -> None:
        world = Swept(clock, tmp_path / "auditor", **options)
        try:
            await test(world)
        finally:
            if world.state is not None:
                world.state.close()

    clock.run(main())


PLAIN = (1_700_000_000_000_000).to_bytes(8, "big") + bytes(8)
"""The version of a plain put: a time."""


def found(turn: Turn) -> dict[str, int]:
    """The kinds that were found, with their counts."""
    return {kind: count for kind, count in turn.findings.items() if count}
