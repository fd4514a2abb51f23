"""Tells the engine that leads the first shard what this one's settings are, and hears which of them differ there."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from libs.errors.errors import WellspringError
from libs.telemetry.logs import fields
from services.propagation.fleet.alike import Alike
from services.propagation.fleet.calls import own_call
from services.propagation.fleet.shards import Shards
from wellspring.propagation.v1 import shards_pb2

log = logging.getLogger(__name__)

_FIRST = 0
_EVERY_S = 10.0
_PATIENCE_S = 5.0


class Comparing(Collector):
    """`run` as long as the process. `shards` are those of now; `differing` is what the first shard's engine said."""

    def __init__(self, alike: Alike, shards: Callable[[], Shards]) -> None:
        self._alike = alike
        self._shards = shards
        self._known: Sequence[str] = ()
        self.differing: Sequence[str] = []

    async def run(self, engine: str) -> None:
        """Tells for ever; `engine` is the address at which others reach this one."""
        while True:
            try:
                await self.tell(engine)
            except (WellspringError, OSError) as error:
                log.debug("settings are not compared now: %s", error)
            await asyncio.sleep(_EVERY_S)

    async def tell(self, engine: str) -> None:
        """Once. Raises what the first shard raises, Unimplemented where its engine is of an older release; OSError."""
        own = await asyncio.to_thread(self._alike.own)
        request = shards_pb2.CompareSettingsRequest(engine=engine, settings=own)
        answer = await self._shards().ask(
            _FIRST, "PropagationShards", "CompareSettings", request, own_call(_PATIENCE_S), patient=False
        )
        differing = sorted(answer.differing)
        if differing != self.differing:
            about = fields(settings=differing)
            if differing:
                log.warning("this engine has other settings than the one that leads the first shard", extra=about)
            else:
                log.info("this engine has the settings of the one that leads the first shard", extra=about)
        self._known, self.differing = sorted(own), differing

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        family = GaugeMetricFamily(
            "wellspring_propagation_settings_differ",
            "1: this engine has another setting than the one that leads the first shard.",
            None,
            ["setting"],
        )
        for name in self._known:
            family.add_metric([name], name in self.differing)
        yield family
