"""The questions of the table, asked of a server; what was written is remembered, so that answers can be judged."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import grpc
from google.rpc import status_pb2  # type: ignore[import-untyped]

from libs.rpc.errors import DETAILS_KEY
from services.storage.rig import put, told
from tests.datacentres.faults import DEADLINE, NO_CONNECTION
from tests.datacentres.promises import Asked, Cell
from wellspring.storage.v1 import storage_pb2 as pb
from wellspring.storage.v1 import storage_pb2_grpc

T = TypeVar("T")
DEADLINE_S: Final = 60.0
PATIENCE_S: Final = 180.0
_PAUSE_S: Final = 0.2
_numbers = itertools.count(1)


@dataclasses.dataclass(slots=True)
class Written:
    """The acknowledged writes of one record, the newest last, and what the newest one brought."""

    values: list[bytes] = dataclasses.field(default_factory=list)
    versions: list[bytes] = dataclasses.field(default_factory=list)
    token: pb.WriteToken = dataclasses.field(default_factory=pb.WriteToken)
    cookie: str = ""

    def add(self, request: pb.PutRequest, receipt: pb.Receipt) -> None:
        """One more."""
        self.values.append(request.item.value)
        self.versions.append(receipt.version)
        self.token, self.cookie = request.token, receipt.cookie


class Away(Exception):
    """The call was not answered in time, or UNAVAILABLE; ``reason`` is the error's."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Home(Exception):
    """The call was refused for being asked away from the namespace's home, which the refusal names."""


class Asker:
    """Calls to the server of one data centre."""

    def __init__(self, datacentre: str, channel: grpc.aio.Channel) -> None:
        self.datacentre = datacentre
        self._stub: Any = storage_pb2_grpc.StorageStub(channel)

    async def put(self, request: pb.PutRequest, timeout_s: float = DEADLINE_S) -> pb.Receipt:
        """Raises Away and Home."""
        answer: pb.PutResponse = await _called(self._stub.Put(request, timeout=timeout_s))
        return answer.receipt

    async def outcome(self, namespace: str, record: bytes, token: pb.WriteToken) -> int:
        """The state of a token. Raises Away and Home."""
        request = pb.GetOutcomeRequest(namespace=namespace, record=record, token=token)
        answer: pb.GetOutcomeResponse = await _called(self._stub.GetOutcome(request, timeout=DEADLINE_S))
        return answer.state

    async def get(self, namespace: str, record: bytes, consistency: int = 0, cookie: str = "") -> bytes | None:
        """The record's value, None when it has none. Raises Away and Home."""
        request = pb.GetRequest(namespace=namespace, record=record, cookie=cookie)
        request.consistency = consistency  # type: ignore[assignment]
        answer: pb.GetResponse = await _called(self._stub.Get(request, timeout=DEADLINE_S))
        return answer.items[0].value if answer.items else None

    async def scan(self, namespace: str) -> dict[bytes, bytes]:
        """The records with their values. Raises Away and Home."""
        found = {}
        try:
            async for page in self._stub.Scan(pb.ScanRequest(namespace=namespace), timeout=DEADLINE_S):
                for record in page.records:
                    found[record.record] = record.items[0].value
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from None
        return found


async def _called(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise _failure(error) from None


def _failure(error: grpc.aio.AioRpcError) -> Exception:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Away(DEADLINE)
    if error.code() is grpc.StatusCode.CANCELLED:
        return Away(NO_CONNECTION)
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        return error
    trailers: Any = error.trailing_metadata() or ()
    raw = dict(trailers).get(DETAILS_KEY)
    if raw is None:
        return Away(NO_CONNECTION)
    refusal = told(error.code(), status_pb2.Status.FromString(raw))
    if "home_datacentre" in refusal.metadata:
        return Home(refusal.metadata["home_datacentre"])
    return Away(refusal.reason)


class Ledger:
    """What was written in which namespace by which data centre, and what is still to be sent again."""

    def __init__(self) -> None:
        self.written: dict[tuple[str, str, bytes], Written] = {}
        self.open: list[tuple[str, pb.PutRequest]] = []

    async def answer(self, asker: Asker, namespace: str, asked: Asked, expected: Cell) -> Cell:
        """What is answered; ``expected`` when a value that was read is as good as that. Where an answer is expected,
        UNAVAILABLE is asked again, as a caller would: a busy machine lets calls time out.

        Raises AssertionError for a value that nobody may read, TimeoutError.
        """
        try:
            if asked.verb == "put" and expected is Cell.DONE:
                await self._write(asker, namespace)
            elif asked.verb == "put":
                await self._attempt(asker, namespace)
            elif expected is Cell.AWAY:
                return await self._read(asker, namespace, asked, expected)
            else:
                return await patiently(str(asked), self._read, asker, namespace, asked, expected)
        except Away:
            return Cell.AWAY
        except Home:
            return Cell.HOME
        return Cell.DONE

    async def send_again(self, askers: Mapping[str, Asker]) -> None:
        """What was attempted in vain is sent once more, with its token, and is there then."""
        for name, request in self.open:
            try:
                receipt = await patiently("an attempt is made good", askers[name].put, request)
            except Home:
                continue
            assert receipt.outcome in (pb.OUTCOME_APPLIED, pb.OUTCOME_REPEATED)
            written = self.written.setdefault((request.namespace, name, request.record), Written())
            written.add(request, receipt)
        self.open.clear()

    async def _write(self, asker: Asker, namespace: str) -> None:
        """One more value of the data centre's own record, acknowledged. Raises Home."""
        request = put(record_of(asker.datacentre), b"%d" % next(_numbers), namespace=namespace)
        receipt = await patiently("a write is answered", asker.put, request)
        self.written.setdefault((namespace, asker.datacentre, request.record), Written()).add(request, receipt)

    async def _attempt(self, asker: Asker, namespace: str) -> None:
        """A write of a record of its own that is to fail. Raises Away and Home."""
        number = next(_numbers)
        request = put(b"attempt %d" % number, b"%d" % number, namespace=namespace)
        self.open.append((asker.datacentre, request))
        await asker.put(request)

    async def _read(self, asker: Asker, namespace: str, asked: Asked, expected: Cell) -> Cell:
        """A question that writes nothing. Raises Away and Home."""
        author = self._author(asker, namespace, asked, expected)
        record = record_of(author)
        written = self.written[namespace, author, record]
        if asked.verb == "outcome":
            state = await asker.outcome(namespace, record, written.token)
            assert state == pb.GetOutcomeResponse.STATE_CURRENT, pb.GetOutcomeResponse.State.Name(state)  # type: ignore[arg-type]
            return Cell.DONE
        value = await asker.get(namespace, record, asked.consistency, written.cookie if asked.cookie else "")
        # What has come may be nothing yet.
        known = [None, *written.values] if expected is Cell.SOME else written.values[-1:]
        assert value in known, f"{asked} in {asker.datacentre} of {namespace} read {value!r}, not one of {known}"
        return expected

    def _author(self, asker: Asker, namespace: str, asked: Asked, expected: Cell) -> str:
        """Whose record a question is about: the newest from elsewhere is the harder one, where there is one."""
        authors = {author for space, author, _ in self.written if space == namespace}
        here = asker.datacentre in authors
        elsewhere = sorted(authors - {asker.datacentre})
        if asked.cookie == "here" or expected is Cell.HERE or asked.verb == "outcome" and here or not elsewhere:
            return asker.datacentre
        return elsewhere[0]


def record_of(datacentre: str) -> bytes:
    """The record that only the data centre's server writes."""
    return f"of {datacentre}".encode()


async def patiently(what: str, ask: Callable[..., Awaitable[T]], *arguments: Any, **named: Any) -> T:
    """The answer of ``ask``, asked again while it is UNAVAILABLE. Raises TimeoutError, naming ``what`` was waited
    for."""
    answer: list[T] = []

    async def answered() -> bool:
        try:
            answer.append(await ask(*arguments, **named))
        except Away:
            return False
        return True

    await until(answered, what)
    return answer[0]


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Returns when it holds. Raises TimeoutError, naming ``what`` was waited for."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await holds():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError:
        raise TimeoutError(f"waited {PATIENCE_S:.0f} s in vain: {what}") from None
