"""What puts that are alike go through on Cassandra when their writer dies half way or the answers to it are lost."""

import asyncio
from typing import Any

import pytest

from libs.cassandra.errors import OutcomeUnknown
from libs.errors.errors import Unavailable, WellspringError
from services.storage.cassandra.lanes import Lane
from services.storage.cassandra.lww.steps import LwwSteps
from services.storage.cassandra.lww.together import LwwTogether
from services.storage.conformance.cassandra_faults_test import dying, play
from services.storage.conformance.kit import Case
from services.storage.domain.feed import ChangeEvent
from services.storage.domain.model import Command, Mode, Outcome, Receipt
from services.storage.domain.namespace import Namespace
from services.storage.store.interface import Write

_RECORDS = [b"r%d" % number for number in range(7)]
_CONTENTS = {record: {b"": record} for record in _RECORDS}


OWN = pytest.mark.parametrize("own", [False, True])
"""Whether each put has a token of its own."""


HOW = pytest.mark.parametrize(("own", "calls"), [(False, False), (True, False), (True, True)])
"""And whether each is a call of its own, all at once."""


def _commands(case: Case, *, own: bool = False) -> list[Command]:
    token = None if own else case.token()
    return [case.command(record, {b"": record}, token=token) for record in _RECORDS]


async def _put(
    case: Case, space: Namespace, commands: list[Command], *, calls: bool = False
) -> list[Receipt | WellspringError]:
    writes = [Write(space, command) for command in commands]
    if calls:
        return [result for (result,) in await asyncio.gather(*(case.store.mutate([write]) for write in writes))]
    return await case.store.mutate(writes)


def _outcomes(results: list[Receipt | WellspringError]) -> list[Outcome]:
    assert all(isinstance(result, Receipt) for result in results), results
    return [result.outcome for result in results if isinstance(result, Receipt)]


async def _told(case: Case, space: Namespace, records: set[bytes], *, doubts: bool = False) -> list[ChangeEvent]:
    """What a watcher is told from the beginning until each of the records was told of, ``doubts``: be it in doubt."""
    cursor = await case.store.feed_start(space, from_beginning=True)
    found: list[ChangeEvent] = []
    async with asyncio.timeout(300):
        while not records <= {event.record for event in found if doubts or not event.in_doubt}:
            page = await case.store.feed(space, cursor, 3)
            found += page.events
            cursor = page.cursor
            if not page.events:
                await case.store.feed_grown(space, cursor, 0.2)
    return found


class _Refusing:
    """A session whose requests that write cells of several records are answered with an error, ``done`` or not; so are
    those that write ``alone``, a record's."""

    def __init__(self, case: Case, error: WellspringError, *, done: bool, alone: bytes = b"") -> None:
        self._session: Any = case.store._session  # type: ignore[attr-defined]
        self._batch = self._session.batch
        self._error, self._done, self._alone = error, done, alone
        self.refused = 0
        self._session.batch = self

    async def __call__(self, writes: Any, *args: Any, **rest: Any) -> Any:
        cells = [values for statement, values in writes if "UPDATE lww " in statement.prepared.query_string]
        records = {value for values in cells for value in values if value in _RECORDS}
        if len(records) > 1 or records == {self._alone}:
            self.refused += 1
            if self._done:
                await self._batch(writes, *args, **rest)
            raise self._error
        return await self._batch(writes, *args, **rest)

    def end(self) -> None:
        self._session.batch = self._batch


@OWN
@pytest.mark.parametrize("name", ["settle_some", "settle"])
def test_a_writer_that_dies_before_it_settles(monkeypatch: pytest.MonkeyPatch, name: str, own: bool) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        commands = _commands(first, own=own)
        with monkeypatch.context() as patch:
            dying(patch, Lane, name)
            assert set(_outcomes(await _put(first, space, commands))) == {Outcome.APPLIED}
            for case in (second, first):
                events = await _told(case, space, set(_RECORDS))
                versions = {event.version for event in events}
                assert all(event.created for event in events) and len(versions) == (len(_RECORDS) if own else 1)
        assert set(_outcomes(await _put(second, space, commands))) == {Outcome.REPEATED}
        assert await second.contents(space) == _CONTENTS

    play(story)


def test_a_writer_that_dies_before_it_writes_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        commands = _commands(first)
        with monkeypatch.context() as patch:
            dying(patch, LwwTogether, "_send")
            results = await _put(first, space, commands)
            assert all(isinstance(result, Unavailable) for result in results)
        assert await second.contents(space) == {}
        events = await _told(second, space, set(_RECORDS), doubts=True)
        assert all(event.in_doubt for event in events)
        assert set(_outcomes(await _put(second, space, commands))) == {Outcome.APPLIED}
        assert await first.contents(space) == _CONTENTS
        await _told(first, space, set(_RECORDS))

    play(story)


@OWN
def test_a_writer_whose_records_are_half_written(monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    """Those that are there are told of, those that are not are in doubt."""

    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        commands = _commands(first, own=own)
        send, sent = LwwTogether._send, set[bytes]()

        async def half(self: LwwTogether, parts: Any, lane: Lane) -> None:
            some = [part for part in parts if part.partition.place[1] in _RECORDS[::2]]
            await send(self, some, lane)
            sent.update(part.partition.place[1] for part in some)
            raise Unavailable("the server died here")

        with monkeypatch.context() as patch:
            patch.setattr(LwwTogether, "_send", half)
            await _put(first, space, commands)
            await _told(second, space, set(_RECORDS), doubts=True)
        there = await second.contents(space)
        assert set(there) == sent
        await _told(second, space, sent)
        again = _outcomes(await _put(second, space, commands))
        assert [outcome is Outcome.REPEATED for outcome in again] == [record in sent for record in _RECORDS]
        assert await first.contents(space) == _CONTENTS
        await _told(first, space, set(_RECORDS))

    play(story)


@HOW
@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("error", [OutcomeUnknown("the answer is lost"), Unavailable("too few replicas")])
def test_what_many_were_refused_each_asks_for_by_itself(
    error: WellspringError, done: bool, own: bool, calls: bool
) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        refusing = _Refusing(first, error, done=done)
        assert set(_outcomes(await _put(first, space, _commands(first, own=own), calls=calls))) == {Outcome.APPLIED}
        assert refusing.refused
        for case in (first, second):
            assert await case.contents(space) == _CONTENTS
            await _told(case, space, set(_RECORDS))
        assert (await first.store.usage(space)).records == len(_RECORDS)

    play(story)


@pytest.mark.parametrize("done", [False, True])
def test_one_whose_answer_stays_away_does_not_keep_the_others(done: bool) -> None:
    """It may have been written with the others: so its outcome is unknown, whatever it is told by itself."""

    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        commands = _commands(first)
        refusing = _Refusing(first, Unavailable("too few replicas"), done=done, alone=_RECORDS[0])
        results = await _put(first, space, commands)
        refusing.end()
        assert isinstance(results[0], OutcomeUnknown)
        assert set(_outcomes(results[1:])) == {Outcome.APPLIED}
        assert (await first.store.usage(space)).records == len(_RECORDS) - 1
        await _told(second, space, set(_RECORDS), doubts=True)
        again = _outcomes(await _put(second, space, commands))
        assert again == [Outcome.REPEATED if done else Outcome.APPLIED] + [Outcome.REPEATED] * (len(_RECORDS) - 1)
        assert await second.contents(space) == _CONTENTS
        await _told(first, space, set(_RECORDS))

    play(story)


@HOW
def test_two_servers_that_put_the_same_at_once(own: bool, calls: bool) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        commands = _commands(first, own=own)
        found = await asyncio.gather(
            _put(first, space, commands, calls=calls), _put(second, space, commands[::-1], calls=calls)
        )
        for results in found:
            assert set(_outcomes(results)) <= {Outcome.APPLIED, Outcome.REPEATED}
        for case in (first, second):
            assert await case.contents(space) == _CONTENTS
            assert set(_outcomes(await _put(case, space, commands))) == {Outcome.REPEATED}
            events = await _told(case, space, set(_RECORDS))
            versions = {event.version for event in events if not event.in_doubt}
            assert len(versions) == (len(_RECORDS) if own else 1)

    play(story)


def test_a_server_that_stops_for_long_tells_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        stopped, go_on = asyncio.Event(), asyncio.Event()
        send = LwwTogether._send

        async def slow(self: LwwTogether, *args: Any) -> None:
            stopped.set()
            await go_on.wait()
            await send(self, *args)

        monkeypatch.setattr(LwwTogether, "_send", slow)
        writing = asyncio.create_task(_put(first, space, _commands(first)))
        await stopped.wait()
        events = await _told(second, space, set(_RECORDS), doubts=True)
        assert all(event.in_doubt for event in events)
        go_on.set()
        assert set(_outcomes(await writing)) == {Outcome.APPLIED}
        for case in (first, second):
            await _told(case, space, set(_RECORDS))

    play(story)


def test_a_step_that_is_left_alone_goes_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller goes away; the writes do not."""

    async def story(first: Case, second: Case) -> None:
        space = await first.space(Mode.LWW)
        begun, found_by = asyncio.Event(), LwwSteps.found_by

        def begin(self: LwwSteps, *args: Any) -> Any:
            begun.set()
            return found_by(self, *args)

        monkeypatch.setattr(LwwSteps, "found_by", begin)
        writing = asyncio.create_task(_put(first, space, _commands(first)))
        await begun.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await _told(second, space, set(_RECORDS))
        assert await second.contents(space) == _CONTENTS

    play(story)
