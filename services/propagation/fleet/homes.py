"""Results of other data centres taken for all shards: each page becomes pending in its own."""

from libs.errors.errors import NotFound, ResourceExhausted, Unavailable, WellspringError
from services.propagation.domain.errors import ViewNotFound
from services.propagation.domain.rerender import Rerender
from services.propagation.fleet.admin import FleetAdmin
from services.propagation.fleet.calls import own_call
from services.propagation.fleet.shards import Shards
from services.propagation.fleet.spreading import Spreading
from services.propagation.views.catalogue import Catalogue
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2

_PATIENCE_S = 30.0
_AGAIN_S = 0.5


class Begun:
    """See `homes.taking.Begin`; `catalogue` is that of the first shard."""

    def __init__(self, shards: Shards, catalogue: Catalogue) -> None:
        self._shards = shards
        self._catalogue = catalogue
        self._spreading = Spreading(shards, catalogue)
        self._admin = FleetAdmin(shards)

    async def __call__(self, asked: Rerender) -> None:
        """Ends when each page is pending. Raises ViewNotFound, Unavailable, ResourceExhausted."""
        request = admin_pb2.RerenderRequest(
            id=asked.id,
            view=asked.view,
            names=b"\0".join(asked.names),
            publish_unchanged=asked.publish_unchanged,
            reason=asked.reason,
            gone_versions=b"".join(asked.gone_versions),
        )
        try:
            # A shard with older views would leave out what they do not cover.
            for shard in {self._shards.of(name.decode()) for name in asked.names} - {0}:
                await self._spreading.spread(shard)
            await self._admin.Rerender(request, own_call(_PATIENCE_S))
        except (Unavailable, ResourceExhausted):
            raise
        except WellspringError as error:
            if isinstance(error, NotFound) and not any(one.name == asked.view for one in self._catalogue.messages):
                raise ViewNotFound(error.message) from None
            raise Unavailable(error.message, retry_after_s=_AGAIN_S) from None
