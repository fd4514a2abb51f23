"""PropagationShards: what engines ask of a shard for outputs of it that other shards depend on."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
from google.protobuf.message import Message

from libs.errors.errors import InvalidArgument, Unavailable
from libs.ids.ids import VERSION_BYTES
from libs.rpc.call import Call
from services.propagation import messages
from services.propagation.domain import hearing, impact, names, upstream
from services.propagation.domain.change import Cause, Change
from services.propagation.domain.engine import Engine
from services.propagation.domain.hearing import Told, ToldPart, ToldRoot
from services.propagation.domain.reach import Reach
from services.propagation.domain.shard import Shard
from services.propagation.fleet.alike import Alike
from services.propagation.store.numbers import to_numbers, to_set
from wellspring.propagation.v1 import propagation_pb2, shards_pb2

MOST_OUTPUTS = 100_000
MOST_FOLLOWED = 2_000
"""Outputs that ReachOutputs follows at once, in some milliseconds."""
_FIRST = 0
_MOST_ADDRESS = 256
_MOST_SETTINGS = 64
_MOST_DIGEST = 64
_MOST_VIEWS = 1_000
"""Names of views that are numbered; there are as many numbers as two bytes have."""


class NoShardNamed:
    """The same for all shards together: nobody asks that."""

    def __getattr__(self, name: str) -> Callable[[Message, Call], Awaitable[Message]]:
        return _refused


async def _refused(request: Message, call: Call) -> Message:
    raise InvalidArgument("is asked of a shard, by engines: the metadata wellspring-shard names it")


class AcrossServicer:
    """Of one shard."""

    def __init__(self, engine: Engine, alike: Alike) -> None:
        self._engine = engine
        self._shard = engine.shard
        self._alike = alike

    async def RegisterInterest(
        self, request: shards_pb2.RegisterInterestRequest, call: Call
    ) -> shards_pb2.RegisterInterestResponse:
        """An output that no view makes yet is told of when one does."""
        messages.at_most("outputs", len(request.outputs), MOST_OUTPUTS)
        self._check_shard(request.shard)
        shard, step = self._shard, self._shard.step()
        by_view: dict[str, list[int]] = {}
        for at, name in enumerate(request.outputs):
            names.check_resource(name, f"outputs[{at}]")
            by_view.setdefault(self._view_of(name, at), []).append(at)
        new = [view for view in by_view if names.is_word(view) and view not in shard.store.views]
        if new and len(shard.store.views) + len(new) > _MOST_VIEWS:
            raise InvalidArgument.field("outputs", f"name views beyond the {_MOST_VIEWS:,} that are numbered")
        step.commit.intern_views(new)
        step.write()
        step = shard.step()
        versions = [b""] * len(request.outputs)
        for view, places in by_view.items():
            number = shard.store.views.get(view)
            if number is None:
                continue  # no view may have that name
            resources = [request.outputs[at][len(names.output_name(view, "")) :].encode() for at in places]
            found = step.commit.intern_resources(resources)
            changed = shard.store.output_changed_at(number, found)
            rendered = shard.store.rendered_at(number, found)
            for at, changed_at, rendered_at in zip(places, changed.tolist(), rendered.tolist(), strict=True):
                versions[at] = shard.sequence.version(rendered_at) if changed_at else b""
            shard.interest.register(step.commit, number, request.shard, to_set(np.sort(found)))
        await step.write()
        return shards_pb2.RegisterInterestResponse(versions=versions)

    def _view_of(self, name: str, at: int) -> str:
        parts = names.output_parts(name)
        if parts is None or not self._shard.settings.part.has(name):
            raise InvalidArgument.field(f"outputs[{at}]", "is no output of this shard")
        return parts[0]

    def _check_shard(self, number: int) -> None:
        part = self._shard.settings.part
        if number >= part.shards or number == part.number:
            raise InvalidArgument.field("shard", f"is {number}; another one of the {part.shards} shards is allowed")

    async def TellOutputs(self, request: shards_pb2.TellOutputsRequest, call: Call) -> shards_pb2.TellOutputsResponse:
        """Durable when answered, what came before too."""
        self._check_shard(request.shard)
        roots = [_root(one, f"roots[{at}]") for at, one in enumerate(request.roots)]
        told = [_told(one, roots, f"told[{at}]") for at, one in enumerate(request.told)]
        durable: Awaitable[None] | None = None
        for one in told:
            durable = hearing.hear(self._shard, request.shard, one) or durable
            await asyncio.sleep(0)  # others have their turns
        await (durable if durable is not None else self._engine.durable())
        return shards_pb2.TellOutputsResponse()

    async def CheckOutputs(
        self, request: shards_pb2.CheckOutputsRequest, call: Call
    ) -> shards_pb2.CheckOutputsResponse:
        """What is told is durable."""
        messages.at_most("outputs", len(request.outputs), MOST_OUTPUTS)
        found = upstream.look(self._shard, request.visibility_token, request.outputs, set(request.readers))
        await self._engine.durable()
        return shards_pb2.CheckOutputsResponse(state=found.state, sources=found.sources, renders=found.renders)

    async def ReachOutputs(
        self, request: shards_pb2.ReachOutputsRequest, call: Call
    ) -> shards_pb2.ReachOutputsResponse:
        """Follows MOST_FOLLOWED outputs of the shard, and those that are named."""
        messages.at_most("outputs", len(request.outputs), MOST_FOLLOWED)
        shard = self._shard
        reach = _reach(shard, request)
        reach.enter(shard, request.outputs)
        wanted = reach.follow(shard, MOST_FOLLOWED)
        response = shards_pb2.ReachOutputsResponse(
            pages=[
                shards_pb2.ReachedPages(view=view, reached=reached, ahead=ahead)
                for view, reached, ahead in reach.packed()
            ],
            fresh=reach.fresh,
            followed=reach.followed,
            more=bool(reach.ahead),
        )
        views = {number: name for name, number in shard.store.views.items()}
        for view, items in wanted.items():
            for number, mine in shard.interest.wanted_by(view, items):
                resources = shard.store.resource_names(to_numbers(mine))
                outputs = [names.output_name(views[view], name.decode()) for name in resources]
                response.wanted.add(shard=number, outputs=outputs)
        return response

    async def CompareSettings(
        self, request: shards_pb2.CompareSettingsRequest, call: Call
    ) -> shards_pb2.CompareSettingsResponse:
        """With those of this process."""
        if self._shard.settings.part.number != _FIRST:
            raise InvalidArgument("is asked of the first shard: the metadata wellspring-shard names another one")
        if not 1 <= len(request.engine) <= _MOST_ADDRESS:
            raise InvalidArgument.field("engine", f"1 to {_MOST_ADDRESS} characters are allowed")
        messages.at_most("settings", len(request.settings), _MOST_SETTINGS)
        if any(len(digest) > _MOST_DIGEST for digest in request.settings.values()):
            raise InvalidArgument.field("settings", f"at most {_MOST_DIGEST} bytes each are allowed")
        try:
            differing = await self._alike.compare(request.engine, request.settings)
        except OSError:
            raise Unavailable("a file of the engine that leads the first shard cannot be read now") from None
        return shards_pb2.CompareSettingsResponse(differing=differing)


def _reach(shard: Shard, request: shards_pb2.ReachOutputsRequest) -> Reach:
    if not request.begun:
        return impact.begun(shard, request.resource, names.check_aspects(request.aspects, "aspects"))
    try:
        return Reach.unpacked((one.view, one.reached, one.ahead) for one in request.pages)
    except (ValueError, IndexError):
        raise InvalidArgument.field("pages", "are not what this shard answered") from None


def _root(message: shards_pb2.TellOutputsRequest.ToldRoot, path: str) -> ToldRoot:
    return ToldRoot(
        messages.change_of(message.change, f"{path}.change") if message.accepted else _made(message.change, path),
        message.accepted,
        message.paused,
        message.reason,
        message.lane,
        message.weight,
    )


def _made(message: propagation_pb2.Change, path: str) -> Change:
    """What an engine made a root for."""
    cause = message.cause
    return Change(
        id=names.check_change_id(message.id, f"{path}.change.id"),
        resource="",
        aspects=(),
        version=bytes(VERSION_BYTES),
        cause=Cause(cause.kind, cause.causer, cause.request_id, tuple(cause.chain)),
        lane=message.lane,
        time_ns=messages.time_ns(message.time, f"{path}.change.time"),
    )


def _told(message: shards_pb2.TellOutputsRequest.Told, roots: list[ToldRoot], path: str) -> Told:
    for at, name in enumerate(message.outputs):
        names.check_resource(name, f"{path}.outputs[{at}]")
    if len(set(message.outputs)) < len(message.outputs):
        raise InvalidArgument.field(f"{path}.outputs", "names an output more than once")
    if len(message.version) != VERSION_BYTES:
        raise InvalidArgument.field(f"{path}.version", f"is {len(message.version)} bytes long; 16 are allowed")
    parts: list[ToldPart] = []
    for at, part in enumerate(message.parts):
        places = np.array(part.outputs, np.uint32)
        if part.root >= len(roots) or (len(places) and int(places.max()) >= len(message.outputs)):
            raise InvalidArgument.field(f"{path}.parts[{at}]", "names what the request does not have")
        parts.append(ToldPart(roots[part.root], part.level, places))
    return Told(message.number, message.version, [name.encode() for name in message.outputs], parts)
