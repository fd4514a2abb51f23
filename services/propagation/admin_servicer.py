"""PropagationAdmin: views, dead letters and the engine's state, for operators."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from libs.config.config import ConfigError
from libs.errors.errors import FailedPrecondition, InvalidArgument
from libs.paging.paging import PageTokens
from libs.rpc.call import Call
from services.propagation import messages
from services.propagation.canary_watch import CanaryWatch
from services.propagation.domain import dead_letters
from services.propagation.domain.dead_letters import DeadLetter, Filter
from services.propagation.domain.engine import Engine
from services.propagation.intake.state import FollowerState
from services.propagation.outputs_servicer import OutputsServicer
from services.propagation.purging import Purging
from services.propagation.rules_servicer import RuleLetters, RulesNow, RulesServicer, mistakes, page_size
from services.propagation.sharded.snapshots.snapshots import Snapshots
from services.propagation.views.catalogue import Catalogue
from wellspring.propagation.v1 import propagation_admin_pb2

_Handled = Callable[[Filter], tuple[int, Awaitable[None] | None]]


class AdminServicer(OutputsServicer, RulesServicer):
    """`followers` answers the state of the followed namespaces, `rules` those that run now; `snapshots` are those that
    are made of the shard, by its number; `other_settings` are engines of the group with others than this one."""

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        tokens: PageTokens,
        followers: Callable[[], Iterable[FollowerState]],
        purging: Purging,
        rules: RulesNow,
        canaries: CanaryWatch,
        snapshots: Mapping[int, Snapshots],
        other_settings: Callable[[], Mapping[str, Sequence[str]]] = dict,
    ) -> None:
        OutputsServicer.__init__(self, engine, tokens)
        RulesServicer.__init__(self, rules)
        self._rule_letters = RuleLetters(rules, tokens)
        self._canaries = canaries
        self._snapshots = snapshots
        self._other_settings = other_settings
        self._catalogue = catalogue
        self._followers = followers
        self._purging = purging

    async def ValidateViews(
        self, request: propagation_admin_pb2.ValidateViewsRequest, call: Call
    ) -> propagation_admin_pb2.ValidateViewsResponse:
        """Every mistake, with its position; nothing is changed."""
        views, found = self._catalogue.validate(request.yaml)
        return propagation_admin_pb2.ValidateViewsResponse(views=views, mistakes=mistakes(found))

    async def PutViews(
        self, request: propagation_admin_pb2.PutViewsRequest, call: Call
    ) -> propagation_admin_pb2.PutViewsResponse:
        """Takes the views when there is no mistake in them."""
        if request.as_revision < 0:
            raise InvalidArgument.field("as_revision", f"is {request.as_revision}; 0 and more are allowed")
        if request.as_revision and request.as_revision <= self._catalogue.revision:
            await self._engine.durable()
            return propagation_admin_pb2.PutViewsResponse(revision=self._catalogue.revision)
        try:
            durable = self._catalogue.put(self._engine, request.yaml, request.if_revision, revision=request.as_revision)
        except ConfigError as error:
            return propagation_admin_pb2.PutViewsResponse(
                revision=self._catalogue.revision, mistakes=mistakes(error.mistakes)
            )
        revision = self._catalogue.revision
        await durable
        return propagation_admin_pb2.PutViewsResponse(revision=revision)

    async def ListViews(
        self, request: propagation_admin_pb2.ListViewsRequest, call: Call
    ) -> propagation_admin_pb2.ListViewsResponse:
        """The views in force, as they are worked on here."""
        views = self._catalogue.for_executors(self._catalogue.messages)
        return propagation_admin_pb2.ListViewsResponse(views=views, revision=self._catalogue.revision)

    async def Purge(
        self, request: propagation_admin_pb2.PurgeRequest, call: Call
    ) -> propagation_admin_pb2.PurgeResponse:
        """A page, a tag or a resource, at every cache; a result for each."""
        return await self._purging.purge(request)

    async def QueryDeadLetters(
        self, request: propagation_admin_pb2.QueryDeadLettersRequest, call: Call
    ) -> propagation_admin_pb2.QueryDeadLettersResponse:
        """Dead letters that match, in pages; `total` counts all that match."""
        if self._rule_letters.are_meant(request.filter):
            return self._rule_letters.query(request)
        wanted = _filter(request.filter)
        method, identity = "QueryDeadLetters", [request.filter.SerializeToString(deterministic=True)]
        after = self._tokens.open(request.page_token, method=method, identity=identity) or b""
        size = page_size(request.page_size)
        letters, last = dead_letters.query(self._engine.shard, wanted, size, after)
        return propagation_admin_pb2.QueryDeadLettersResponse(
            dead_letters=[_letter(letter) for letter in letters],
            next_page_token=self._tokens.issue(last, method=method, identity=identity) if last else "",
            total=dead_letters.count(self._engine.shard, wanted),
        )

    async def ReplayDeadLetters(
        self, request: propagation_admin_pb2.ReplayDeadLettersRequest, call: Call
    ) -> propagation_admin_pb2.ReplayDeadLettersResponse:
        """Makes those that match pending again; a second call finds none of them."""
        if self._rule_letters.are_meant(request.filter):
            tried = await self._rule_letters.replay(request.filter)
            return propagation_admin_pb2.ReplayDeadLettersResponse(replayed=tried)
        replayed = await self._handle(request.filter, lambda f: dead_letters.replay(self._engine.shard, f))
        return propagation_admin_pb2.ReplayDeadLettersResponse(replayed=replayed)

    async def DiscardDeadLetters(
        self, request: propagation_admin_pb2.DiscardDeadLettersRequest, call: Call
    ) -> propagation_admin_pb2.DiscardDeadLettersResponse:
        """Gives those that match up for good."""
        if self._rule_letters.are_meant(request.filter):
            gone = await self._rule_letters.discard(request.filter)
            return propagation_admin_pb2.DiscardDeadLettersResponse(discarded=gone)
        discarded = await self._handle(request.filter, lambda f: dead_letters.discard(self._engine.shard, f))
        return propagation_admin_pb2.DiscardDeadLettersResponse(discarded=discarded)

    async def _handle(self, message: propagation_admin_pb2.DeadLetterFilter, handle: _Handled) -> int:
        """Commit by commit, until none is left that was there at the beginning."""
        wanted = _filter(message)
        left = dead_letters.count(self._engine.shard, wanted)
        handled = 0
        while handled < left:
            count, durable = handle(wanted)
            if durable is None:
                break
            handled += count
            await durable
            await asyncio.sleep(0)
        return handled

    async def GetStatus(
        self, request: propagation_admin_pb2.GetStatusRequest, call: Call
    ) -> propagation_admin_pb2.GetStatusResponse:
        """Counts of the engine as it is now."""
        shard = self._engine.shard
        roots = list(shard.roots.values())
        lanes: dict[str, list[int]] = {name: [0, 0] for name in shard.settings.lanes}
        for root in roots:
            lane = lanes.setdefault(root.record.lane, [0, 0])
            lane[0] += root.pending
            lane[1] += 1
        return propagation_admin_pb2.GetStatusResponse(
            epoch=shard.store.epoch,
            sequence=shard.sequence.last,
            resources=shard.store.resource_count,
            edges=shard.store.edge_count,
            pending=sum(pending for pending, _ in lanes.values()),
            leased=shard.leases.count,
            retrying=shard.holds.waiting_count,
            dead_letters=shard.holds.dead_count,
            active_roots=len(roots),
            lanes=[
                propagation_admin_pb2.GetStatusResponse.Lane(
                    name=name, weight=shard.scheduler.weight(name), pending=pending, roots=count
                )
                for name, (pending, count) in sorted(lanes.items())
            ],
            followers=[
                propagation_admin_pb2.Follower(
                    namespace=state.namespace,
                    resume_token=state.resume_token,
                    last_event_time=messages.timestamp(state.last_event_ns) if state.last_event_ns else None,
                    error=state.error,
                )
                for state in self._followers()
            ],
            sources=[
                propagation_admin_pb2.Source(
                    name=source.name,
                    last_canary_time=messages.timestamp(source.last_ns) if source.last_ns else None,
                    overdue=source.overdue,
                )
                for source in self._canaries.states()
            ],
            snapshots=[_snapshots(number, kept) for number, kept in self._snapshots.items()],
            other_settings=[
                propagation_admin_pb2.OtherSettings(engine=engine, settings=settings)
                for engine, settings in sorted(self._other_settings().items())
            ],
        )

    async def GrowShards(
        self, request: propagation_admin_pb2.GrowShardsRequest, call: Call
    ) -> propagation_admin_pb2.GrowShardsResponse:
        """Of several shards only: see fleet/growth.py."""
        raise _alone()

    async def GetShards(
        self, request: propagation_admin_pb2.GetShardsRequest, call: Call
    ) -> propagation_admin_pb2.GetShardsResponse:
        """See GrowShards."""
        raise _alone()


def _alone() -> FailedPrecondition:
    return FailedPrecondition(
        "this engine works alone: for several shards all engines of the group need backend.sharded.shards above 1",
        reason="NO_SHARDS",
    )


def _filter(message: propagation_admin_pb2.DeadLetterFilter) -> Filter:
    return Filter(message.view, message.resource_prefix, message.root, message.reason)


def _snapshots(shard: int, kept: Snapshots) -> propagation_admin_pb2.ShardSnapshots:
    newest = kept.newest
    return propagation_admin_pb2.ShardSnapshots(
        shard=shard,
        newest_time=messages.timestamp(int(newest.written_s * 1e9)) if newest is not None else None,
        size_bytes=newest.size_bytes if newest is not None else 0,
        waiting=messages.duration(kept.age_s),
        log_begins_at=kept.log_begins_at,
        error=kept.error,
    )


def _letter(letter: DeadLetter) -> propagation_admin_pb2.DeadLetter:
    return propagation_admin_pb2.DeadLetter(
        view=letter.view,
        resource=letter.resource,
        root=letter.root,
        reason=letter.held.reason,
        detail=letter.held.detail,
        attempts=letter.held.attempts,
        first_time=messages.timestamp(letter.held.first_ns),
        last_time=messages.timestamp(letter.held.last_ns),
    )
