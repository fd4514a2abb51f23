"""What rendering cost, by causer: each shard's own sums added up, the most expensive first."""

import struct

from libs.errors.errors import InvalidArgument
from libs.rpc.call import Call
from services.propagation.fleet.shards import Shards
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2

_PAGE = 100
_MOST_PAGE = 1_000
_RANK = struct.Struct(">dQ")

_Causer = admin_pb2.ListCostsResponse.Causer


async def together(shards: Shards, request: admin_pb2.ListCostsRequest, call: Call) -> admin_pb2.ListCostsResponse:
    """A page of them. All causers of all shards are gone through for each page: some ten thousand at most."""
    sums: dict[str, _Causer] = {}
    for shard in range(shards.count):
        token = ""
        while True:
            asked = admin_pb2.ListCostsRequest(page_size=_MOST_PAGE, page_token=token)
            answer = await shards.ask(shard, "PropagationAdmin", "ListCosts", asked, call)
            for one in answer.causers:
                _add(sums.setdefault(one.causer, _Causer(causer=one.causer)), one)
            token = answer.next_page_token
            if not token:
                break
    ranked = sorted(sums.values(), key=_rank)
    if request.page_token:
        told = _read(request.page_token)
        ranked = [one for one in ranked if _rank(one) > told]
    size = min(request.page_size or _PAGE, _MOST_PAGE)
    page = ranked[:size]
    return admin_pb2.ListCostsResponse(causers=page, next_page_token=_token(page[-1]) if len(ranked) > size else "")


def _add(whole: _Causer, part: _Causer) -> None:
    whole.roots = max(whole.roots, part.roots)  # each shard has every root
    whole.rendered += part.rendered
    whole.unchanged += part.unchanged
    whole.renderer_seconds += part.renderer_seconds


def _rank(one: _Causer) -> tuple[float, int, str]:
    return -one.renderer_seconds, -one.rendered, one.causer


def _token(one: _Causer) -> str:
    return (_RANK.pack(one.renderer_seconds, one.rendered) + one.causer.encode()).hex()


def _read(token: str) -> tuple[float, int, str]:
    try:
        packed = bytes.fromhex(token)
        seconds, rendered = _RANK.unpack_from(packed)
        return -seconds, -rendered, packed[_RANK.size :].decode()
    except (ValueError, struct.error):
        raise InvalidArgument.field(
            "page_token", "is not from an answer of this method", reason="PAGE_TOKEN_INVALID"
        ) from None
