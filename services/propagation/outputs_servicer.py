"""PropagationAdmin of outputs: rendered again, listed as the engine believes them to be, and what they cost."""

import asyncio
import struct

from libs.errors.errors import InvalidArgument
from libs.paging.paging import PageTokens
from libs.rpc.call import Call
from services.propagation import packing
from services.propagation.domain import outputs
from services.propagation.domain.engine import Engine
from services.propagation.domain.names import split_names
from services.propagation.domain.rerender import Rerender, rerender
from wellspring.propagation.v1 import propagation_admin_pb2

_PAGE = 5_000
_MOST_PAGE = 50_000
_COSTS_PAGE = 100
_MOST_COSTS_PAGE = 1_000
_MAX_REASON_BYTES = 1_024
_RANK = struct.Struct(">dQ")
_CURSOR = struct.Struct(">q")


class OutputsServicer:
    """One screen a method; the work is the engine's."""

    def __init__(self, engine: Engine, tokens: PageTokens) -> None:
        self._engine = engine
        self._tokens = tokens

    async def Rerender(
        self, request: propagation_admin_pb2.RerenderRequest, call: Call
    ) -> propagation_admin_pb2.RerenderResponse:
        """Makes pages pending under a root of their own; durable when answered."""
        if len(request.reason.encode()) > _MAX_REASON_BYTES:
            raise InvalidArgument.field("reason", f"at most {_MAX_REASON_BYTES:,} bytes are allowed")
        names = split_names(request.names, "names")
        gone = packing.versions(request.gone_versions, "gone_versions")
        asked = Rerender(request.id, request.view, names, request.publish_unchanged, request.lane, request.reason, gone)
        begun, durable = rerender(self._engine.shard, asked)
        if durable is not None:
            await durable
        else:
            await self._engine.durable()
        return propagation_admin_pb2.RerenderResponse(root=begun.root, pages=begun.pages, unknown=begun.unknown)

    async def ListOutputs(
        self, request: propagation_admin_pb2.ListOutputsRequest, call: Call
    ) -> propagation_admin_pb2.ListOutputsResponse:
        """Outputs in pages, in an order that stays; a page may be short, or empty, before the last one."""
        size = _size(request.page_size, _PAGE, _MOST_PAGE)
        view = self._engine.shard.views.number(request.view)
        method, identity = "ListOutputs", [request.view]
        cursor = self._tokens.open(request.page_token, method=method, identity=identity)
        after: int = _CURSOR.unpack(cursor)[0] if cursor else -1
        page = outputs.page(self._engine.shard, view, after, size)
        await asyncio.sleep(0)  # whoever asks for page after page leaves the engine its turns
        token = ""
        if page.after >= 0:
            token = self._tokens.issue(_CURSOR.pack(page.after), method=method, identity=identity)
        return propagation_admin_pb2.ListOutputsResponse(
            names=page.names, hashes=page.hashes, versions=page.versions, states=page.states, next_page_token=token
        )

    async def ListCosts(
        self, request: propagation_admin_pb2.ListCostsRequest, call: Call
    ) -> propagation_admin_pb2.ListCostsResponse:
        """Causers with what their changes cost, the most expensive first, as it is now."""
        size = _size(request.page_size, _COSTS_PAGE, _MOST_COSTS_PAGE)
        cursor = self._tokens.open(request.page_token, method="ListCosts", identity=[])
        shard = self._engine.shard
        unfinished = ((root.record.change.cause.causer, root.tally()) for root in shard.roots.values())
        ranked = [((-cost.seconds, -cost.rendered, causer), cost) for causer, cost in shard.causers.totals(unfinished)]
        if cursor:
            seconds, rendered = _RANK.unpack_from(cursor)
            told = (-seconds, -rendered, cursor[_RANK.size :].decode())
            ranked = [one for one in ranked if one[0] > told]
        page = ranked[:size]
        token = ""
        if len(ranked) > size:
            (seconds, rendered, causer), _ = page[-1]
            last = _RANK.pack(-seconds, -rendered) + causer.encode()
            token = self._tokens.issue(last, method="ListCosts", identity=[])
        return propagation_admin_pb2.ListCostsResponse(
            causers=[
                propagation_admin_pb2.ListCostsResponse.Causer(
                    causer=causer,
                    roots=cost.roots,
                    rendered=cost.rendered,
                    unchanged=cost.unchanged,
                    renderer_seconds=cost.seconds,
                )
                for (_, _, causer), cost in page
            ],
            next_page_token=token,
        )


def _size(asked: int, default: int, most: int) -> int:
    if asked < 0:
        raise InvalidArgument.field("page_size", f"is {asked}; 0 (the default, {default:,}) to {most:,} are allowed")
    return min(asked or default, most)
