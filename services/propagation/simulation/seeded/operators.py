"""Operators: they pause, resume, move, cancel, replay, discard, render again, put other views and leave some out.

What an operator gives up by name (a cancelled root, a discarded dead letter) is promised to nobody: an author edits it
again. What a view that was left out has missed is rendered again by hand once it is back. Who has pages rendered again
asks until it is acknowledged, as authors do: what a lost attempt has stored meanwhile is told by the next one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from libs.errors.errors import WellspringError as EngineError
from services.propagation.domain import control, dead_letters
from services.propagation.domain.dead_letters import Filter
from services.propagation.domain.errors import ViewNotFound
from services.propagation.domain.records import State
from services.propagation.domain.rerender import Rerender, rerender
from services.propagation.domain.shard import Shard
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.host import Host
from services.propagation.simulation.seeded.invariants import Invariants
from services.propagation.simulation.seeded.people import Author
from services.propagation.simulation.seeded.places import PLACES, TEMPLATES, VIEWS, views_text
from services.propagation.simulation.seeded.trace import Trace
from wellspring_client.errors import WellspringError

_MOST_DISCARDED = 3
_AGAIN_S = 1.0


class Operator:
    """One of them acts now and then."""

    def __init__(
        self,
        host: Host,
        author: Author,
        invariants: Invariants,
        rng: Random,
        faults: Callable[[], Faults],
        trace: Trace,
    ) -> None:
        self._host = host
        self._author = author
        self._invariants = invariants
        self._rng = rng
        self._faults = faults
        self._trace = trace
        self._rerenders = 0
        self._missed: dict[str, None] = {}

    async def act(self) -> None:
        """One of the things that operators do."""
        actions: list[Callable[[Shard], list[str] | Rerender | None]] = [
            self.pause,
            self.resume,
            self.move,
            self.replay,
            self.render_again,
        ]
        if self._faults().cancels:
            actions += [self.cancel, self.discard]
        action = self._rng.choice(actions)
        try:
            found = action(self._host.up.shard)
        except (EngineError, WellspringError):
            return
        if isinstance(found, Rerender):
            await self._author.at_work(self._begin(found))
            return
        for name in found or ():
            await self._author.at_work(self._author.edit_again(name))

    def pause(self, shard: Shard) -> None:
        """One root."""
        running = [root for root in shard.roots.values() if root.record.state is State.ACTIVE]
        if running:
            root = self._rng.choice(running)
            self._trace("operator", f"pauses {root.id}")
            control.pause(shard, root.id, "by hand")

    def resume(self, shard: Shard) -> None:
        """All that are paused."""
        for root in list(shard.roots.values()):
            if root.record.state is State.PAUSED:
                self._trace("operator", f"resumes {root.id}")
                control.resume(shard, root.id)

    def move(self, shard: Shard) -> None:
        """To another lane."""
        if shard.roots:
            root = self._rng.choice(list(shard.roots.values()))
            control.reprioritize(shard, root.id, self._rng.choice(["default", "fast"]), self._rng.randrange(1, 9))

    def cancel(self, shard: Shard) -> list[str]:
        """A root of a template; answers what is to be edited again."""
        roots = [root for root in shard.roots.values() if root.record.change.resource in TEMPLATES]
        if not roots:
            return []
        root = self._rng.choice(roots)
        self._trace("operator", f"cancels {root.id}")
        control.cancel(shard, root.id, "a mistake")
        return [root.record.change.resource]

    def replay(self, shard: Shard) -> None:
        """All dead letters but those of oscillations."""
        for reason in _reasons(shard):
            count, _ = dead_letters.replay(shard, Filter(reason=reason))
            self._trace("operator", f"replays {count} of {reason}")

    def discard(self, shard: Shard) -> list[str]:
        """Some dead letters; answers what is to be edited again."""
        names: list[str] = []
        for reason in _reasons(shard):
            for letter in dead_letters.query(shard, Filter(reason=reason), _MOST_DISCARDED)[0]:
                self._trace("operator", f"discards {letter.view} of {letter.resource}: {reason}")
                self._invariants.give_up(letter.held.view, letter.held.resource)
                dead_letters.discard(shard, Filter(letter.view, letter.resource, reason=reason))
                names.append(letter.resource)
        return names

    def render_again(self, shard: Shard) -> Rerender:
        """Pages of a view, by name or all that it rendered: what is to be asked for."""
        view = self._rng.choice(VIEWS)
        every = [name for of, name in PLACES if of == view]
        names = self._rng.choice([[], self._rng.sample(every, self._rng.randrange(1, len(every) + 1))])
        return self._asked(view, names, publish_unchanged=self._rng.random() < 0.5)

    def _asked(self, view: str, names: list[str], *, publish_unchanged: bool) -> Rerender:
        self._rerenders += 1
        return Rerender(
            f"again/{self._rerenders}", view, [name.encode() for name in names], publish_unchanged=publish_unchanged
        )

    async def _begin(self, asked: Rerender) -> None:
        while True:
            try:
                await self._host.call(lambda: self._begun(asked))
            except ViewNotFound:
                return  # left out meanwhile: what it misses is rendered again once it is back
            except (EngineError, WellspringError):
                await asyncio.sleep(self._rng.uniform(0, _AGAIN_S))
            else:
                return

    async def _begun(self, asked: Rerender) -> None:
        begun, durable = rerender(self._host.up.shard, asked)
        self._trace("operator", f"has {begun.pages} of {asked.view} rendered again as {asked.id}")
        if durable is not None:
            await durable
        else:
            await self._host.up.durable()

    async def reload(self) -> None:
        """Other views: the same ones with other times, perhaps one of them left out, as a new revision."""
        left_out = self._rng.choice(VIEWS) if self._rng.random() < self._faults().left_out else ""
        await self._put(left_out)

    async def bring_back(self, shard: Shard) -> bool:
        """Ends whatever was left out, and has rendered what its views have missed. Whether that was so before."""
        if not self._missed:
            return True
        if await self._put(""):
            for view in list(self._missed):
                names = [name for of, name in PLACES if of == view]
                await self._begin(self._asked(view, names, publish_unchanged=False))
            self._missed.clear()
        return False

    async def _put(self, left_out: str) -> bool:
        if left_out:
            self._missed[left_out] = None
        try:
            durable = self._host.views.put(self._host.up, views_text(self._rng, left_out))
            without = f" without {left_out}" if left_out else ""
            self._trace("operator", f"puts views{without}, revision {self._host.views.revision}")
            await self._host.call(lambda: _waited(durable))
        except (EngineError, WellspringError):
            return False
        return True


def _reasons(shard: Shard) -> list[str]:
    """Of dead letters, but for oscillations."""
    return sorted({held.reason for held in shard.holds.dead_letters(None)} - {"OSCILLATION"})


async def _waited(durable: Awaitable[None]) -> None:
    await durable
