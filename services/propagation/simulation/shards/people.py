"""Those around a fleet: authors and operators who ask any engine, and people who ask what became of an edit."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from google.protobuf.message import Message

from libs.errors.errors import FailedPrecondition, NotFound
from libs.errors.errors import WellspringError as EngineError
from services.propagation import messages
from services.propagation.domain.change import Change
from services.propagation.domain.records import State
from services.propagation.domain.shard import Shard
from services.propagation.fleet.ids import change_told
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.invariants import Invariants
from services.propagation.simulation.seeded.people import Author
from services.propagation.simulation.seeded.places import PLACES, TEMPLATES, VIEWS, views_text
from services.propagation.simulation.seeded.site import Site
from services.propagation.simulation.seeded.trace import Trace
from services.propagation.simulation.shards.calling import call_of
from services.propagation.simulation.shards.fleet import CALL_S, FleetHost
from services.propagation.simulation.shards.shown import Acknowledged, Judge
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring_client.errors import WellspringError

_AGAIN_S = 1.0
_RECENT = 4
_LOOKS, _LOOK_S = 30, 0.4
_ANSWERED_S = 5.0
"""So long an answer is on its way at most, if nobody stands still."""
_REFUSED = (EngineError, WellspringError)


class FleetAuthor(Author):
    """See `Author`: a change is published to any engine, which tells all shards."""

    def __init__(
        self,
        site: Site,
        fleet: FleetHost,
        invariants: Invariants,
        rng: Random,
        faults: Callable[[], Faults],
        trace: Trace,
        acknowledged: Callable[[Change, str], None],
    ) -> None:
        super().__init__(site, fleet, invariants, rng, faults, trace)
        self._fleet = fleet
        self._acknowledged = acknowledged

    async def _publish(self, change: Change) -> int:
        request = pb.PublishChangesRequest(changes=[messages.change_message(change)])
        response = await self._fleet.propagation.PublishChanges(request, call_of(CALL_S))
        result = response.results[0]
        if result.status.code:
            raise WellspringError(result.status.message)
        self._acknowledged(change, result.visibility_token)
        return 0


class FleetOperator:
    """Pauses, resumes, moves, cancels, replays, renders again and puts views, through any engine."""

    def __init__(
        self,
        fleet: FleetHost,
        author: FleetAuthor,
        judge: Judge,
        rng: Random,
        faults: Callable[[], Faults],
        trace: Trace,
    ) -> None:
        self._fleet = fleet
        self._author = author
        self._judge = judge
        self._rng = rng
        self._faults = faults
        self._trace = trace
        self._rerenders = 0

    async def act(self) -> None:
        """One of the things that operators do."""
        actions: list[Callable[[], Awaitable[None]]] = [
            self.pause,
            self.resume,
            self.move,
            self.replay,
            self.render_again,
        ]
        if self._faults().cancels:
            actions.append(self.cancel)
        try:
            await self._rng.choice(actions)()
        except _REFUSED:
            return

    async def pause(self) -> None:
        """One root."""
        for name, _ in self._some(State.ACTIVE):
            self._trace("operator", f"pauses {name}")
            await self._ask("Pause", pb.PauseRequest(id=name))

    async def resume(self) -> None:
        """All that are paused."""
        for name, _ in self._roots(State.PAUSED):
            self._trace("operator", f"resumes {name}")
            await self._ask("Resume", pb.ResumeRequest(id=name))

    async def move(self) -> None:
        """To another lane."""
        for name, _ in self._some(State.ACTIVE):
            lane, weight = self._rng.choice(["default", "fast"]), self._rng.randrange(1, 9)
            await self._ask("Reprioritize", pb.ReprioritizeRequest(id=name, lane=lane, weight=weight))

    async def cancel(self) -> None:
        """A root of a template, which is then edited again. Asks until it is known what became of it."""
        roots = [one for one in self._roots(State.ACTIVE) if one[1] in TEMPLATES]
        for name, resource in self._drawn(roots):
            self._trace("operator", f"cancels {name}")
            self._judge.give_up(resource)
            await self._author.at_work(self._cancelled(name, resource))

    async def _cancelled(self, name: str, resource: str) -> None:
        asked = pb.CancelRequest(id=name, reason="a mistake")
        while True:
            try:
                await self._ask("Cancel", asked)
                break
            except (FailedPrecondition, NotFound):
                break
            except _REFUSED:
                await asyncio.sleep(self._rng.uniform(0, _AGAIN_S))
        self._judge.give_up(resource)
        await self._author.edit_again(resource)

    async def replay(self) -> None:
        """All dead letters but those of oscillations."""
        for reason in self._reasons():
            self._trace("operator", f"replays those of {reason}")
            asked = admin_pb2.ReplayDeadLettersRequest(filter=admin_pb2.DeadLetterFilter(reason=reason))
            await self._ask("ReplayDeadLetters", asked)

    async def render_again(self) -> None:
        """Pages of a view, by name or all that it rendered. Asks until it is acknowledged."""
        view = self._rng.choice(VIEWS)
        every = [name for of, name in PLACES if of == view]
        names = self._rng.choice([[], self._rng.sample(every, self._rng.randrange(1, len(every) + 1))])
        self._rerenders += 1
        asked = admin_pb2.RerenderRequest(
            id=f"again/{self._rerenders}",
            view=view,
            names="\0".join(names).encode(),
            publish_unchanged=self._rng.random() < 0.5,
        )
        self._trace("operator", f"has {names or 'all'} of {view} rendered again as {asked.id}")
        await self._author.at_work(self._until("Rerender", asked))

    async def reload(self) -> None:
        """The same views with other times."""
        self._trace("operator", "puts views")
        try:
            await self.put_views()
        except _REFUSED:
            return

    async def put_views(self) -> None:
        """Raises what the fleet raises."""
        asked = admin_pb2.PutViewsRequest(yaml=views_text(self._rng))
        answer = await self._ask("PutViews", asked)
        assert not answer.mistakes, answer

    async def _until(self, method: str, request: Message) -> None:
        while True:
            try:
                await self._ask(method, request)
                return
            except _REFUSED:
                await asyncio.sleep(self._rng.uniform(0, _AGAIN_S))

    async def _ask(self, method: str, request: Message) -> Any:
        """The answer of any engine, by the method's name."""
        return await self._fleet.call(lambda: self._fleet.method(method)(request, call_of(CALL_S)))

    def _shards(self) -> list[tuple[int, Shard]]:
        found = [(number, self._fleet.domain(number)) for number in range(len(self._fleet.logs))]
        return [(number, shard) for number, shard in found if shard is not None]

    def _roots(self, state: State) -> list[tuple[str, str]]:
        """(id, resource) of those that a shard has in a state."""
        found = {
            change_told(number, root.id): root.record.change.resource
            for number, shard in self._shards()
            for root in shard.roots.values()
            if root.record.state is state
        }
        return list(found.items())

    def _some(self, state: State) -> list[tuple[str, str]]:
        return self._drawn(self._roots(state))

    def _drawn(self, roots: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [self._rng.choice(roots)] if roots else []

    def _reasons(self) -> list[str]:
        letters = [held.reason for _, shard in self._shards() for held in shard.holds.dead_letters(None)]
        return sorted(set(letters) - {"OSCILLATION"})


class Askers:
    """People who ask whether a change has ended, and whether a page shows it."""

    def __init__(self, fleet: FleetHost, judge: Judge, rng: Random) -> None:
        self._fleet = fleet
        self._judge = judge
        self._rng = rng
        self._known: dict[str, Acknowledged] = {}
        self.ended = 0
        self.visible = 0
        self.over_everywhere = 0

    def note(self, known: Acknowledged) -> None:
        """It was acknowledged."""
        self._known[known.id] = known

    def over(self, change_id: str) -> None:
        """A shard has finished it; if all have, it is judged."""
        known = self._known.get(change_id)
        if known is not None and not self._fleet.unfinished(change_id):
            self.over_everywhere += 1
            self._judge.ended(known)

    async def ask(self) -> None:
        """One question about one of the newest changes."""
        recent = list(self._known.values())[-_RECENT:]
        if not recent:
            return
        known = self._rng.choice(recent)
        try:
            if self._rng.random() < 0.3:
                await self._ended(known)
            else:
                await self._visible(known)
        except _REFUSED:
            return

    async def _ended(self, known: Acknowledged) -> None:
        """Looks until it has ended, or for long enough."""
        asked = pb.GetChangeRequest(id=known.id)
        for _ in range(_LOOKS):
            asked_s = self._fleet.virtual.monotonic()
            root = await self._fleet.call(lambda: self._fleet.propagation.GetChange(asked, call_of(CALL_S)))
            if root.state == pb.Root.STATE_DONE and not root.left:
                self.ended += 1
                self._judge.ended(known, self._known_by(asked_s))
                return
            await asyncio.sleep(_LOOK_S)

    async def _visible(self, known: Acknowledged) -> None:
        """Waits for a page that is made of it, rather through other pages than at once."""
        places = self._judge.made_of(known.change.resource)
        places = [place for place in places if not self._judge.names(place, known.change.resource)] or places
        if not places:
            return
        view, resource = self._rng.choice(places)
        asked = pb.AwaitVisibleRequest(visibility_token=known.token, resource=resource, view=view)
        wait_s = self._rng.uniform(1, 20)
        asked_s = self._fleet.virtual.monotonic()
        answer = await self._fleet.call(lambda: self._fleet.propagation.AwaitVisible(asked, call_of(wait_s)))
        if answer.visible:
            self.visible += 1
            self._judge.visible(known, (view, resource), self._known_by(asked_s))

    def _known_by(self, asked_s: float) -> float:
        """What was known then at the latest is in an answer that comes now."""
        now_s = self._fleet.virtual.monotonic()
        return asked_s if self._fleet.woke_s >= asked_s else max(asked_s, now_s - _ANSWERED_S)
