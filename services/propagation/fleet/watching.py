"""The stream of all changes and outputs, out of the streams of all shards.

Changes are told as the first shard accepts them, an output as its own shard does; what is of two shards has no order. A
token holds the place in each shard's stream.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from libs.errors.errors import InvalidArgument, WellspringError
from libs.rpc.call import Call
from services.propagation import messages
from services.propagation.fleet.errors import ShardAway
from services.propagation.fleet.ids import change_told, of_parent
from services.propagation.fleet.shards import Shards
from wellspring.propagation.v1 import propagation_pb2

_MARK = "wcs1-"
_INNER = "wc2-"
_DIGITS = 24
_FIRST = 0
"""The shard whose changes are told: each has all."""

_Told = tuple[int, "propagation_pb2.WatchChangesResponse | WellspringError"]


class Watching:
    """Over all shards."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def every(
        self, request: propagation_pb2.WatchChangesRequest, call: Call
    ) -> AsyncIterator[propagation_pb2.WatchChangesResponse]:
        """Nothing is told before each shard has told where it is: a token must hold the place in all of them."""
        messages.seconds(request.heartbeat_interval, "heartbeat_interval", 1.0, 60.0, 5.0)
        places = _places(request.resume_token, self._shards.count)
        told: asyncio.Queue[_Told] = asyncio.Queue(maxsize=self._shards.count)
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(self._follow(shard, request, places.get(shard, ""), told, begun, call))
            for shard in range(self._shards.count)
        ]
        try:
            first = dict([_checked(await told.get()) for _ in range(self._shards.count)])
            begun.set()
            places = {shard: answer.resume_token for shard, answer in first.items()}
            yield _response(
                [event for shard, answer in sorted(first.items()) for event in _events(shard, answer)], places
            )
            while True:
                shard, answer = _checked(await told.get())
                places[shard] = answer.resume_token
                events = _events(shard, answer)
                if events:
                    yield _response(events, places)
                elif shard == _FIRST and answer.HasField("heartbeat"):
                    response = _response([], places)
                    response.heartbeat.CopyFrom(answer.heartbeat)
                    yield response
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(
        self,
        shard: int,
        request: propagation_pb2.WatchChangesRequest,
        place: str,
        told: "asyncio.Queue[_Told]",
        begun: asyncio.Event,
        call: Call,
    ) -> None:
        """Puts what the shard tells, over its moves; the error that ends it last."""
        mine = propagation_pb2.WatchChangesRequest()
        mine.CopyFrom(request)
        if not request.resume_token:
            # Until it tells where it is, nothing is told to the caller.
            mine.heartbeat_interval.FromSeconds(1)
        try:
            while True:
                if place:
                    mine.resume_token = place
                try:
                    stream = self._shards.stream(shard, "Propagation", "WatchChanges", mine, call)
                    async with aclosing(stream) as answers:
                        async for answer in answers:
                            place = answer.resume_token
                            await told.put((shard, answer))
                            await begun.wait()
                except ShardAway:
                    if not place or self._shards.ended:
                        raise
        except WellspringError as error:
            await told.put((shard, error))


def _checked(told: _Told) -> tuple[int, propagation_pb2.WatchChangesResponse]:
    shard, answer = told
    if isinstance(answer, WellspringError):
        raise answer
    return shard, answer


def _events(
    shard: int, answer: propagation_pb2.WatchChangesResponse
) -> list[propagation_pb2.WatchChangesResponse.Event]:
    """What is the shard's to tell, with ids that no other shard gives."""
    events = []
    for event in answer.events:
        if event.output_hash:
            event.change.id = event.change.id.replace("/", f"/{shard}/", 1)
            chain = [change_told(shard, root) for root in event.change.cause.chain]
            event.change.cause.ClearField("chain")
            event.change.cause.chain.extend(chain)
        elif shard != _FIRST:
            continue
        events.append(event)
    return events


def _response(
    events: list[propagation_pb2.WatchChangesResponse.Event], places: dict[int, str]
) -> propagation_pb2.WatchChangesResponse:
    token = _MARK + "".join(place.removeprefix(_INNER) for _, place in sorted(places.items()))
    return propagation_pb2.WatchChangesResponse(events=events, resume_token=token)


def _places(token: str, shards: int) -> dict[int, str]:
    """By shard, its own token; none for none. Raises InvalidArgument."""
    if not token:
        return {}
    digits = token.removeprefix(_MARK)
    places = {shard: of_parent(digits, _DIGITS, shard, shards) for shard in range(shards)}
    if digits == token or None in places.values() or set(digits) - set("0123456789abcdef"):
        raise InvalidArgument.field("resume_token", "is not from an answer of this method", reason="PAGE_TOKEN_INVALID")
    return {shard: f"{_INNER}{place}" for shard, place in places.items()}
