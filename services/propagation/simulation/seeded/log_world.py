"""One seeded run whose engines share a log, with the failures of brokers: take-overs that the owner does not hear of,
records that come late, twice or in part, and a log without a leader."""

import asyncio
from unittest import mock

from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.log_host import LogHost
from services.propagation.simulation.seeded.weather import Kind
from services.propagation.simulation.seeded.world import Outcome, World
from services.propagation.store.logged import records

TAKE_OVER_EVERY_S = 10.0
PIECE_BYTES = 200
"""So small that many commits have several."""


class LogWorld(World):
    """See `World`."""

    host_of = LogHost

    def __init__(self, seed: int, faults: Faults | None = None, *, printing: bool = False) -> None:
        super().__init__(seed, faults, printing=printing)
        # What this world is for comes in each seed.
        self.faults = self.faults.with_(take_over_every_s=self.faults.take_over_every_s or TAKE_OVER_EVERY_S)
        self._brokers = self.rng("brokers")

    @property
    def log_host(self) -> LogHost:
        """The host."""
        assert isinstance(self.host, LogHost)
        return self.host

    def replayed(self) -> str:
        """See `World.replayed`."""
        return f"{super().replayed()} --log"

    def run(self) -> Outcome:
        """See `World.run`."""
        with mock.patch.object(records, "PIECE_BYTES", PIECE_BYTES):
            return super().run()

    def _weather_kinds(self) -> list[Kind]:
        return [
            *super()._weather_kinds(),
            ("take-overs", self._take_over, lambda: self.faults.take_over_every_s),
            ("leader losses", self._lose_leader, lambda: self.faults.leaderless_every_s),
        ]

    async def _take_over(self) -> None:
        self.log_host.depose()

    async def _lose_leader(self) -> None:
        self.trace("log", "has no leader")
        self.log_host.log.leaderless = True
        await asyncio.sleep(self._brokers.uniform(0.1, 5.0))
        self.log_host.log.leaderless = False
        self.trace("log", "has a leader")

    def _check_end(self) -> None:
        super()._check_end()
        self.log_host.check_log()
