"""The sweeper: one turn after another over all outputs and then over what lies in the store, slow on purpose.

How far it is stands on disk after each part, so that a kill costs one part. While the engine or the store is away it
waits, and goes on where it was.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from libs.clock.clock import Clock
from libs.telemetry.logs import fields
from services.propagation.auditor.addressing import ViewAddresses, addresses
from services.propagation.auditor.orphans import OrphanSweep
from services.propagation.auditor.outputs import OutputSweep
from services.propagation.auditor.ports import Engine
from services.propagation.auditor.state import CURSOR, REPORT, StateDirectory
from services.propagation.auditor.turn import Tally, Turn
from wellspring_client.errors import (
    DeadlineExceeded,
    PageTokenInvalid,
    ResumeTokenExpired,
    Unavailable,
    WellspringError,
)

logger = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0
MOST_RETRY_S = 30.0
_OUTPUTS, _ORPHANS = "outputs", "orphans"


@dataclass(frozen=True, slots=True)
class Part:
    """A view whose outputs are compared, or a namespace that is looked through for orphans."""

    kind: str
    name: str
    views: tuple[ViewAddresses, ...]

    @property
    def key(self) -> str:
        """As the cursor has it."""
        return f"{self.kind}:{self.name}"


class Sweeper:
    """`tell` hears of the turn after each part."""

    def __init__(
        self,
        engine: Engine,
        outputs: OutputSweep,
        orphans: OrphanSweep,
        clock: Clock,
        state: StateDirectory,
        pause_s: float,
        tell: Callable[[Turn], None] = lambda turn: None,
    ) -> None:
        self._engine = engine
        self._outputs = outputs
        self._orphans = orphans
        self._clock = clock
        self._state = state
        self._pause_s = pause_s
        self._tell = tell
        self.turn: Turn | None = None
        self.last: Turn | None = None

    async def run(self) -> None:
        """Turns without end, each after its pause. Raises OSError when the cursor cannot be written."""
        retry_s = FIRST_RETRY_S
        self.last = self._kept(REPORT)
        while True:
            try:
                await self._await_turn()
                await self.one_turn()
                retry_s = FIRST_RETRY_S
            except (Unavailable, DeadlineExceeded) as error:
                logger.warning("the sweep waits", extra=fields(reason=error.reason, why=error.message))
                await self._clock.sleep(retry_s)
                retry_s = min(MOST_RETRY_S, 2 * retry_s)

    async def one_turn(self) -> Turn:
        """Ends the turn that is under way, or a new one. Raises the SDK's errors; the turn then goes on later."""
        turn = self.turn or self._resume() or self._fresh()
        self.turn = turn
        while (part := next((p for p in await self._parts() if p.key not in turn.done), None)) is not None:
            await self._sweep(turn, part)
        turn.ended_ns = self._clock.time_ns()
        await self._state.write(REPORT, turn.plain())
        await self._state.write(CURSOR, {"format": 0, "turn": turn.number})
        self.turn, self.last = None, turn
        found = {kind: count for kind, count in turn.findings.items() if count}
        logger.info("a turn of the sweep has ended", extra=fields(turn=turn.number, **found))
        return turn

    async def _sweep(self, turn: Turn, part: Part) -> None:
        """One part to its end, or to where it cannot be swept."""
        if turn.at != part.key:
            turn.at, turn.token = part.key, ""
        while turn.at:
            try:
                tally, token = await self._piece(part, turn.token)
            except (PageTokenInvalid, ResumeTokenExpired):
                if not turn.token:
                    raise
                turn.tally.counts["begun_again"] += 1
                turn.token = ""
                continue
            except (Unavailable, DeadlineExceeded):
                raise
            except WellspringError as error:
                logger.error("a part cannot be swept", extra=fields(part=part.key, why=error.message))
                turn.problem(part.key, error.message)
                tally, token = Tally(), ""
            turn.tally.add(tally)
            turn.token = token
            if not token:
                turn.done.append(part.key)
                turn.at = ""
            await self._state.write(CURSOR, turn.plain())
            self._tell(turn)

    async def _piece(self, part: Part, token: str) -> tuple[Tally, str]:
        if part.kind == _OUTPUTS:
            return await self._outputs.part(part.views[0], token)
        return await self._orphans.part(part.name, part.views, token)

    async def _parts(self) -> Sequence[Part]:
        """All views first: what they repair is no orphan then."""
        views = list(addresses(await self._engine.views()).values())
        spaces: dict[str, list[ViewAddresses]] = {}
        for view in views:
            spaces.setdefault(view.namespace, []).append(view)
        parts = [Part(_OUTPUTS, view.name, (view,)) for view in views]
        return [*parts, *(Part(_ORPHANS, space, tuple(found)) for space, found in sorted(spaces.items()))]

    async def _await_turn(self) -> None:
        """Until the pause after the last turn is over; a turn under way goes on at once."""
        if self.turn is None and self._resumable() is None and self.last is not None:
            # A clock that was set back must not put off the next turn for longer than a pause.
            since_s = max(0.0, (self._clock.time_ns() - self.last.ended_ns) / 1e9)
            await self._clock.sleep(max(0.0, self._pause_s - since_s))

    def _fresh(self) -> Turn:
        last = self.last or self._kept(REPORT)
        return Turn((last.number if last is not None else 0) + 1, self._clock.time_ns())

    def _resume(self) -> Turn | None:
        turn = self._resumable()
        if turn is not None:
            turn.resumed += 1
            logger.info("the sweep goes on", extra=fields(turn=turn.number, at=turn.at))
        return turn

    def _resumable(self) -> Turn | None:
        turn = self._kept(CURSOR)
        return turn if turn is not None and not turn.ended_ns else None

    def _kept(self, name: str) -> Turn | None:
        plain = self._state.read(name)
        try:
            return Turn.of(plain) if plain is not None else None
        except (KeyError, TypeError, ValueError):
            logger.error("a file of the auditor is damaged and left out of account", extra=fields(file=name))
            return None
