"""Sessions in other data centres: opened once, left alone for a while when they fail, and asked again after that."""

import asyncio
from typing import Any

import pytest

from libs.cassandra.options import Options
from libs.cassandra.session import Session
from libs.errors.errors import Unavailable
from services.storage.cassandra.lww.far import Datacentres, Place
from services.storage.cassandra.statements import Statements
from services.storage.store.tasks import Tasks


class FakeSession:
    """Where it was opened, and whether it was closed."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.closed = False

    def addresses(self, datacentre: str) -> tuple[tuple[str, int], ...]:
        return ((datacentre, 9042),)

    async def close(self) -> None:
        self.closed = True


class World:
    """A clock, and sessions that open or do not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.reachable = True
        self.opened: list[FakeSession] = []

        async def open_session(options: Options) -> FakeSession:
            if not self.reachable:
                raise Unavailable("no node can be reached")
            self.opened.append(FakeSession(options))
            return self.opened[-1]

        async def prepare(session: Any) -> Statements:
            return Statements({}, {})

        monkeypatch.setattr(Session, "open", open_session)
        monkeypatch.setattr(Statements, "prepare", prepare)
        here: Any = FakeSession(Options((("here", 9042),), "ks", "dc1"))
        self.tasks = Tasks()
        self.datacentres = Datacentres(Place(here, Statements({}, {})), self.tasks, lambda: self.now_s)

    async def settled(self) -> None:
        """Lets what was begun end."""
        for _ in range(10):
            await asyncio.sleep(0)

    def away(self) -> None:
        """It cannot be asked, as whoever tries to finds and says."""
        with pytest.raises(Unavailable):
            self.datacentres.place("dc2")
        self.datacentres.failed("dc2")


def test_a_data_centre_is_asked_once_its_session_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        world = World(monkeypatch)
        await world.tasks.start()
        assert world.datacentres.place("") is world.datacentres.here is world.datacentres.place("dc1")
        world.away()
        world.away()
        await world.settled()
        found = world.datacentres.place("dc2")
        assert found is world.datacentres.place("dc2")
        (session,) = world.opened
        assert (session.options.local_datacentre, session.options.contact_points) == ("dc2", (("dc2", 9042),))
        await world.tasks.close()
        await world.datacentres.close()
        assert session.closed

    asyncio.run(story())


def test_one_that_fails_rests_and_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        world = World(monkeypatch)
        await world.tasks.start()
        world.reachable = False
        world.away()
        await world.settled()
        world.reachable = True
        for _ in range(6):  # whoever asks meanwhile does not make it rest for longer
            world.away()
            await world.settled()
            world.now_s += 1
        assert len(world.opened) == 1
        world.datacentres.place("dc2")
        world.datacentres.failed("dc2")
        for _ in range(5):
            world.away()
            world.now_s += 1
        world.datacentres.place("dc2")
        await world.tasks.close()
        await world.datacentres.close()

    asyncio.run(story())
