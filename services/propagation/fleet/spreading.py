"""The views of the first shard put into all others, by the engine that leads it: whatever was away takes them then."""

import asyncio
import logging

from libs.errors.errors import WellspringError
from libs.telemetry.logs import fields
from services.propagation.fleet.calls import own_call
from services.propagation.fleet.shards import Shards
from services.propagation.views.catalogue import Catalogue
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_PATIENCE_S = 5.0
_SERVICE = "PropagationAdmin"


class Spreading:
    """`catalogue` is that of the first shard."""

    def __init__(self, shards: Shards, catalogue: Catalogue) -> None:
        self._shards = shards
        self._catalogue = catalogue

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            for shard in range(1, self._shards.count):
                try:
                    await self.spread(shard)
                except WellspringError as error:
                    log.info("a shard cannot be given the views now", extra=fields(shard=shard, reason=error.reason))
            await asyncio.sleep(_EVERY_S)

    async def spread(self, shard: int) -> None:
        """Gives one shard the views, when it has older ones. Raises what the shard raises."""
        call = own_call(_PATIENCE_S)
        there = await self._shards.ask(shard, _SERVICE, "ListViews", admin_pb2.ListViewsRequest(), call)
        if there.revision < self._catalogue.revision:
            request = admin_pb2.PutViewsRequest(yaml=self._catalogue.text, as_revision=self._catalogue.revision)
            await self._shards.ask(shard, _SERVICE, "PutViews", request, call)
