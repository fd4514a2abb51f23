"""Takes what another data centre renders: follows its engine, waits for the store here, and has the pages purged here.

The home's engine tells every output that changed, in order and with a token to go on from. A page is awaited until the
store of this data centre has it; then it becomes pending here under a root of its own, and an executor takes it
(executor/take_renderer.py) and purges the caches of this data centre. What comes twice is known by its version and has
no effect. The position is kept behind what was taken, so that a crash repeats some of it and forgets nothing. Where the
home's log no longer reaches back to it, and for a view that is new here, all pages are gone through once.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import groupby
from random import Random

from libs.errors.errors import ResourceExhausted
from libs.errors.errors import Unavailable as EngineUnavailable
from libs.telemetry.logs import fields
from services.propagation.domain.engine import Engine
from services.propagation.domain.errors import ViewNotFound
from services.propagation.domain.names import output_parts
from services.propagation.domain.rerender import Rerender, rerender
from services.propagation.executor.hashing import GONE
from services.propagation.homes.awaited import Awaited, Position, Rendered
from services.propagation.homes.replica import MOST, Replica
from services.propagation.intake.state import FollowerState
from services.propagation.views.catalogue import Catalogue
from wellspring.propagation.v1 import propagation_pb2
from wellspring_client.errors import ResumeTokenExpired, WellspringError
from wellspring_client.propagation import Propagation
from wellspring_client.propagation_admin import Output

log = logging.getLogger(__name__)

POSITION = "home"
MOST_AWAITED = 100_000
"""Pages; then the home is not read on until the store has some of them."""
_FIRST_LOOK_S = 0.02
_MOST_LOOK_S = 1.0
_FIRST_BACKOFF_S = 0.2
_MOST_BACKOFF_S = 10.0
_FULL_WAIT_S = 0.5
REASON = "rendered at its home"


Begin = Callable[[Rerender], Awaitable[None]]
"""Ends when the pages are pending, durably. Raises ViewNotFound, and the engine's Unavailable and ResourceExhausted."""


class Taking:
    """Of one home. `client` speaks with its engine, `replica` with the store here; `begin` makes pages pending (None:
    `engine` does, which keeps the position)."""

    def __init__(
        self,
        datacentre: str,
        engine: Engine,
        catalogue: Catalogue,
        client: Propagation,
        replica: Replica,
        rng: Random,
        begin: Begin | None = None,
    ) -> None:
        self.datacentre = datacentre
        self._engine = engine
        self._catalogue = catalogue
        self._client = client
        self._replica = replica
        self._rng = rng
        self._begin = begin or self._begin_here
        kept = engine.shard.store.get_record(POSITION, datacentre.encode())
        self._kept = _position(kept) if kept is not None else Position()
        self._awaited = Awaited(self._kept)
        self._heard = self._kept
        self._changed = asyncio.Event()
        self._fewer = asyncio.Event()
        self.state = FollowerState(f"home/{datacentre}", self._kept.token)

    @property
    def awaited(self) -> int:
        """Pages that were rendered there and are not in the store here yet."""
        return len(self._awaited)

    async def run(self) -> None:
        """Takes until it is cancelled; a home or a store that is away is waited for."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_always())
            failures = 0
            while True:
                before = self._heard
                try:
                    await self._follow()
                except ResumeTokenExpired:
                    log.warning(
                        "a home no longer tells what is missing here: its pages are listed", extra=self._about()
                    )
                    self._heard = Position()
                except WellspringError as error:
                    self._note(error)
                failures = 0 if self._heard != before else failures + 1
                await self._back_off(failures)

    async def _back_off(self, failures: int) -> None:
        longest = min(_MOST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(failures, 10))
        await asyncio.sleep(longest * (0.5 + self._rng.random() / 2))

    async def _follow(self) -> None:
        token = self._heard.token
        async for answer in self._client.watch_changes(resume_token=token, include_outputs=True):
            self.state.error = ""
            wanted = {view.name for view in self._catalogue.homed_in(self.datacentre)}
            self._tell(_rendered(answer, wanted), Position(answer.resume_token, self._heard.views & wanted))
            for view in sorted(wanted - self._heard.views):
                # What changes while they are listed is told after the token that is in hand.
                await self._list(view)
                self._tell([], Position(self._heard.token, self._heard.views | {view}))
            await self._room()

    async def _list(self, view: str) -> None:
        outputs: list[Output] = []
        async for output in self._client.admin.outputs(view):
            if any(output.version):
                outputs.append(output)
            if len(outputs) == MOST:
                await self._tell_listed(view, outputs)
                outputs = []
        if outputs:
            await self._tell_listed(view, outputs)

    async def _tell_listed(self, view: str, outputs: Sequence[Output]) -> None:
        """What a list tells is the version of the last render, which may have stored nothing: how new a page is, the
        store as a whole says."""
        for message in self._catalogue.homed_in(self.datacentre):
            if message.name == view:
                names = [output.resource for output in outputs]
                found = await self._replica.versions(message, names, strong=True)
                pages = [
                    Rendered(view, output.resource, version or output.version, version is None)
                    for output, version in zip(outputs, found, strict=True)
                ]
                self._tell(pages, self._heard)
                await self._room()

    def _tell(self, pages: Iterable[Rendered], position: Position) -> None:
        self._heard = position
        self._awaited.add(pages, position)
        self._changed.set()

    async def _room(self) -> None:
        while len(self._awaited) > MOST_AWAITED:
            self._fewer.clear()
            await self._fewer.wait()

    async def _take_always(self) -> None:
        pause_s = _FIRST_LOOK_S
        while True:
            if not self._awaited:
                await self._changed.wait()
            self._changed.clear()
            before = self.state.changes
            try:
                await self._take_what_is_here()
                await self._keep()
            except (WellspringError, EngineUnavailable) as error:
                self._note(error)
            pause_s = _FIRST_LOOK_S if self.state.changes > before else min(2 * pause_s, _MOST_LOOK_S)
            if self._awaited:
                await asyncio.sleep(pause_s)

    async def _take_what_is_here(self) -> None:
        views = {view.name: view for view in self._catalogue.homed_in(self.datacentre)}
        pages = sorted(self._awaited.pages())
        for name, alike in groupby(pages, key=lambda page: page.view):
            of_view = list(alike)
            if name not in views:
                self._awaited.done(of_view)  # the view has another home by now
                self._fewer.set()
                continue
            for at in range(0, len(of_view), MOST):
                piece = of_view[at : at + MOST]
                found = await self._replica.versions(views[name], [page.resource for page in piece])
                here = [page for page, version in zip(piece, found, strict=True) if _is_here(page, version)]
                for gone in (False, True):
                    if alike_here := [page for page in here if page.gone is gone]:
                        await self._take(name, alike_here, gone)

    async def _take(self, view: str, pages: Sequence[Rendered], gone: bool) -> None:
        """Has them taken, as often as it takes to begin with it.

        Of pages that are gone the store has no version by which one would be known that came and went since: their
        purge is never cut off, and has the version of their end as its minimum.
        """
        names = [page.resource.encode() for page in pages]
        ends = [page.version for page in pages] if gone else []
        asked = Rerender(_id(view, pages), view, names, publish_unchanged=gone, reason=REASON, gone_versions=ends)
        while True:
            try:
                await self._begin(asked)
            except ViewNotFound:
                break  # the views changed meanwhile
            except (EngineUnavailable, ResourceExhausted) as error:
                self.state.error = error.message
                await asyncio.sleep(error.retry_after_s or _FULL_WAIT_S)
            else:
                break
        self._awaited.done(pages)
        self._fewer.set()
        self.state.changes += len(pages)

    async def _begin_here(self, asked: Rerender) -> None:
        _, durable = rerender(self._engine.shard, asked)
        await (durable if durable is not None else self._engine.durable())

    async def _keep(self) -> None:
        """Writes down how far it is, behind what was taken."""
        position = self._awaited.position
        if position == self._kept:
            return
        step = self._engine.shard.step()
        told = json.dumps({"token": position.token, "views": sorted(position.views)}).encode()
        step.commit.put_record(POSITION, self.datacentre.encode(), told)
        await step.write()
        self._kept = position
        self.state.resume_token = position.token

    def _note(self, error: Exception) -> None:
        self.state.error = f"{type(error).__name__}: {error}"
        log.warning("another data centre's pages cannot be taken now", extra=self._about(problem=str(error)))

    def _about(self, **more: str) -> dict[str, object]:
        return fields(home=self.datacentre, **more)


def _rendered(answer: propagation_pb2.WatchChangesResponse, views: set[str]) -> list[Rendered]:
    found = []
    for event in answer.events:
        parts = output_parts(event.change.resource) if event.output_hash else None
        if parts is not None and parts[0] in views:
            found.append(Rendered(*parts, event.change.version, event.output_hash == GONE))
    return found


def _is_here(page: Rendered, version: bytes | None) -> bool:
    if version is None:
        return page.gone
    return version > page.version or (version == page.version and not page.gone)


def _id(view: str, pages: Sequence[Rendered]) -> str:
    """The same pages at the same versions begin one root, however often they are told."""
    digest = hashlib.blake2b(view.encode(), digest_size=16)
    for page in pages:
        digest.update(b"\0" + page.resource.encode() + b"\0" + page.version + b"gone as of" * page.gone)
    return f"home/{digest.hexdigest()}"


def _position(kept: bytes) -> Position:
    plain = json.loads(kept)
    return Position(plain["token"], frozenset(plain["views"]))
