"""Sessions in other data centres: what their processes announced is read where it was written, where no gap can be.

A session is opened when it is first wanted, behind the backs of those who want it. A data centre that cannot be asked
is left alone for some seconds: others must not wait for it each time.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from libs.cassandra.session import Session
from libs.errors.errors import Unavailable, WellspringError
from services.storage.cassandra.statements import Statements
from services.storage.store.tasks import Tasks

_log = logging.getLogger(__name__)
_REST_S: Final = 5.0
"""How long a data centre that could not be asked is left alone."""
_OPENING_S: Final = 0.05
"""How often it is looked whether a session is open."""


class Place(NamedTuple):
    """Where statements are sent."""

    session: Session
    statements: Statements


class Datacentres:
    """The sessions of one store; ``here`` is its own."""

    def __init__(self, here: Place, tasks: Tasks, monotonic_s: Callable[[], float]) -> None:
        self.here = here
        self._own = here.session.options.local_datacentre
        self._tasks = tasks
        self._monotonic_s = monotonic_s
        self._places: dict[str, Place] = {}
        self._opening: set[str] = set()
        self._rest_until_s: dict[str, float] = {}

    def place(self, datacentre: str) -> Place:
        """Where a data centre (the own one, when it is not named) is asked. Raises Unavailable while it cannot be."""
        if datacentre in ("", self._own):
            return self.here
        found = self._places.get(datacentre)
        resting = self._resting(datacentre)
        if found is not None and not resting:
            return found
        if found is None and not resting and datacentre not in self._opening:
            self._opening.add(datacentre)
            self._tasks.spawn(self._open(datacentre))
        raise Unavailable(f"the data centre {datacentre!r} cannot be asked for its changes now", retry_after_s=_REST_S)

    async def reached(self, datacentre: str) -> Place:
        """As :meth:`place`, once a session that is not open yet is. Raises Unavailable when it cannot be opened."""
        while True:
            try:
                return self.place(datacentre)
            except Unavailable:
                if datacentre not in self._opening:
                    raise
                await asyncio.sleep(_OPENING_S)

    def failed(self, datacentre: str) -> None:
        """A data centre did not answer. One that was not asked, because it is resting or not open yet, rests no
        longer for that."""
        if datacentre in self._places and not self._resting(datacentre):
            self._rest(datacentre)

    def _resting(self, datacentre: str) -> bool:
        return self._monotonic_s() < self._rest_until_s.get(datacentre, float("-inf"))

    def _rest(self, datacentre: str) -> None:
        self._rest_until_s[datacentre] = self._monotonic_s() + _REST_S

    async def close(self) -> None:
        """Ends the sessions that were opened here."""
        for place in self._places.values():
            await place.session.close()

    async def _open(self, datacentre: str) -> None:
        here = self.here.session
        there = here.addresses(datacentre) or here.options.contact_points
        options = dataclasses.replace(here.options, local_datacentre=datacentre, contact_points=there)
        try:
            session = await Session.open(options)
            try:
                self._places[datacentre] = Place(session, await Statements.prepare(session))
            except BaseException:
                await session.close()
                raise
        except WellspringError as error:
            _log.warning("a data centre cannot be asked", extra={"datacentre": datacentre, "reason": error.reason})
            self._rest(datacentre)
        finally:
            self._opening.discard(datacentre)
