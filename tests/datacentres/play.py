"""The clients of both data centres, what they have written, and whether the table holds for them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration

from tests.datacentres.asking import PATIENCE_S, Asker, Away, Ledger, until
from tests.datacentres.cluster import Site
from tests.datacentres.promises import HOME, KINDS, LOCAL, Asked, Cell
from tests.histories.clients import channel
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_admin_pb2_grpc

CUT: Final = "cut"
"""What is away when the link between the data centres is."""
LONG: Final = Duration(seconds=3600)
"""What is sent again after an outage is as old as that."""
_HOME: Final = admin_pb.Placement(home_datacentre=HOME)
SPACES: Final = (
    admin_pb.Namespace(name="homed", mode=admin_pb.MODE_CAS, placement=_HOME, max_clock_drift=LONG),
    admin_pb.Namespace(name="homeless", mode=admin_pb.MODE_CAS, max_clock_drift=LONG),
    admin_pb.Namespace(name="merged", mode=admin_pb.MODE_LWW, max_clock_drift=LONG),
    admin_pb.Namespace(name="counted", mode=admin_pb.MODE_CAS, placement=_HOME, quota=admin_pb.Quota(max_records=1000)),
)
Question = tuple[str, Asker, Asked, Cell]
"""Namespace, who is asked, what, and what is to be answered."""


class Play:
    """The servers' clients and what they have written."""

    def __init__(self, askers: Mapping[str, Asker]) -> None:
        self.askers = askers
        self.ledger = Ledger()

    def questions(self, away: str | None) -> Iterable[Question]:
        """All of the table's, with the data centre ``away`` away (None: none; CUT: to each the other one)."""
        for kind in KINDS:
            for name in kind.datacentres:
                for line in kind.lines:
                    cell = line.both if away is None else line.own_away if away == name else line.other_away
                    yield kind.namespace, self.askers[name], line.asked, cell

    async def holds(self, away: str | None) -> None:
        """Every cell of a state, all asked at once: first the writes, then the rest. Raises AssertionError."""
        questions = list(self.questions(away))
        await self._hold([question for question in questions if question[2].verb == "put"])
        await self._hold([question for question in questions if question[2].verb != "put"])

    async def returned(self) -> None:
        """What was refused is written after all, the table holds for both up, and both read the same by themselves."""
        await self.ledger.send_again(self.askers)
        await self.holds(None)
        await self.converged()

    async def converged(self) -> None:
        """Every acknowledged write is what either data centre reads by itself."""
        for (space, author, record), written in self.ledger.written.items():
            for asker in self.askers.values():
                same = functools.partial(_reads, asker, space, record, written.values[-1])
                await until(same, f"{record!r} of {space}, written in {author}, read in {asker.datacentre}")

    async def _hold(self, questions: Sequence[Question]) -> None:
        answers = await asyncio.gather(
            *(self.ledger.answer(asker, space, asked, cell) for space, asker, asked, cell in questions)
        )
        told = [
            f"{asked} of {space} in {asker.datacentre}: {answer.name}, not {cell.name}"
            for (space, asker, asked, cell), answer in zip(questions, answers, strict=True)
            if answer is not cell
        ]
        assert not told, told


async def _reads(asker: Asker, space: str, record: bytes, value: bytes) -> bool:
    """Whether the data centre by itself reads the value by now."""
    try:
        return await asker.get(space, record, LOCAL.consistency) == value
    except Away:
        return False


@contextlib.asynccontextmanager
async def playing(running: Site) -> AsyncIterator[Play]:
    """Clients of both."""
    async with contextlib.AsyncExitStack() as stack:
        askers = {}
        for name, one in running.datacentres.items():
            askers[name] = Asker(name, await stack.enter_async_context(channel(one.server.address)))
        yield Play(askers)


async def made(running: Site) -> None:
    """Makes the namespaces; both servers know them then."""
    async with playing(running) as play, channel(running.datacentres[HOME].server.address) as to:
        admin: Any = storage_admin_pb2_grpc.StorageAdminStub(to)
        for space in SPACES:
            await admin.CreateNamespace(admin_pb.CreateNamespaceRequest(namespace=space), timeout=PATIENCE_S)
        for asker in play.askers.values():
            for space in SPACES:
                await until(functools.partial(_knows, asker, space.name), f"{asker.datacentre} knows {space.name}")


async def _knows(asker: Asker, space: str) -> bool:
    try:
        await asker.get(space, b"nothing", LOCAL.consistency)
    except Away:
        return False
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return False
        raise
    return True
