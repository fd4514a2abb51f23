"""Conformance: puts that are alike (one item each, of many records, with one token or each its own) do what each would
do by itself; so do single ones of several callers that come at once."""

import asyncio
import random

import pytest

from libs.errors.errors import WellspringError
from services.storage.conformance.kit import SECOND_US, Bench, Case, between, keys, older_than
from services.storage.domain.errors import TokenReused
from services.storage.domain.model import ALL, Command, Delete, Mode, Outcome, Put, Receipt
from services.storage.domain.namespace import Namespace
from services.storage.store.interface import Write

_RECORDS = [b"r%d" % number for number in range(12)]


async def _had(case: Case, spaces: list[Namespace], dice: random.Random) -> None:
    """A mutation of some record, the same in each namespace."""
    record = dice.choice(_RECORDS)
    kind = dice.choice(("flat", "item", "wide", "delete", "range", "render"))
    command = case.command(record, {b"": dice.randbytes(4)})
    if kind == "item":
        command = case.command(record, {b"k": dice.randbytes(4)})
    elif kind == "wide":
        command = case.command(record, {b"item%d" % number: b"1" for number in range(30)})
    elif kind == "delete":
        command = case.command(record, (), (Delete(keys(b""), None),))
    elif kind == "range":
        command = case.command(record, (), (Delete(dice.choice((ALL, between(b"", b"l"))), None),))
    elif kind == "render" and spaces[0].settings.mode is Mode.LWW:
        command = case.command(record, {b"": dice.randbytes(4)}, condition=older_than(dice.randrange(9)))
    for space in spaces:
        await case.write(space, command)


def _told(result: Receipt | WellspringError, versions: bool) -> object:
    if isinstance(result, WellspringError):
        return type(result), result.reason
    return (result.outcome, bool(result.sequence), result.version if versions else None)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("seed", range(2))
def test_together_as_each_by_itself(bench: Bench, mode: Mode, seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    versions = mode is Mode.LWW

    async def story(case: Case) -> None:
        together, alone = await case.space(mode), await case.space(mode)
        for turn in range(6):
            for _ in range(10):
                await _had(case, [together, alone], dice)
            records = dice.sample([*_RECORDS, *(b"new%d%d" % (turn, at) for at in range(4))], dice.randrange(2, 17))
            token, key = case.token(dice.choice((0, 0, -SECOND_US // 100_000))), dice.choice((b"", b"", b"k"))
            tokens = [case.token() if turn % 2 else token for _ in records]
            condition = older_than(dice.randrange(9)) if versions and dice.random() < 0.3 else None
            for again in (False, True):
                commands = [
                    case.command(
                        record, (Put(key, b"%d" % (again and record == records[0]), condition=condition),), token=own
                    )
                    for record, own in zip(records, tokens, strict=True)
                ]
                writes = [Write(together, command) for command in commands]
                if turn < 4:
                    many = await case.store.mutate(writes)
                else:
                    calls = await asyncio.gather(*(case.store.mutate([write]) for write in writes))
                    many = [result for (result,) in calls]
                ones = [(await case.store.mutate([Write(alone, command)]))[0] for command in commands]
                assert [_told(one, versions=versions) for one in many] == [
                    _told(one, versions=versions) for one in ones
                ]
        await _same(case, together, alone, versions=versions)

    bench.run(story)


async def _same(case: Case, together: Namespace, alone: Namespace, *, versions: bool) -> None:
    assert await case.contents(together) == await case.contents(alone)
    places = [(space, record) for space in (together, alone) for record in _RECORDS]
    at_once = await asyncio.gather(*(case.page(*place) for place in places))
    assert at_once == [await case.page(*place) for place in places]
    for record in _RECORDS:
        pages = [await case.page(space, record) for space in (together, alone)]
        assert pages[0].found == pages[1].found and (not versions or pages[0].version == pages[1].version)
    usages = [await case.store.usage(space) for space in (together, alone)]
    assert usages[0][:3] == usages[1][:3]
    told = []
    for space in (together, alone):
        events = await case.events(space)
        told.append(
            {
                record: [
                    (event.version if versions else b"", event.items, event.created, event.deleted)
                    for event in events
                    if event.record == record
                ]
                for record in _RECORDS
            }
        )
    assert told[0] == told[1]


@pytest.mark.parametrize("mode", list(Mode))
def test_together_with_others_in_one_call(bench: Bench, mode: Mode) -> None:
    """Several steps, mutations that belong to none, a record that is there twice, more records than one step has."""

    async def story(case: Case) -> None:
        space = await case.space(mode)
        token = case.token()
        records = [b"many%03d" % number for number in range(230)]
        commands: list[Command] = [case.command(record, {b"": record}, token=token) for record in records]
        commands.append(case.command(records[0], {b"": b"other"}, token=token))
        commands.append(case.command(records[1], {b"k": b"more"}))
        commands += [case.command(b"wide", {b"a": b"1", b"b": b"2"}), case.command(b"one", {b"": b"1"})]
        results = await case.store.mutate([Write(space, command) for command in commands])
        assert isinstance(results[230], TokenReused)
        receipts = [result for index, result in enumerate(results) if index != 230]
        assert {receipt.outcome for receipt in receipts if isinstance(receipt, Receipt)} == {Outcome.APPLIED}
        assert len({receipt.sequence for receipt in receipts if isinstance(receipt, Receipt)}) == 233
        found = await case.contents(space)
        assert found.pop(b"wide") == {b"a": b"1", b"b": b"2"} and found.pop(b"one") == {b"": b"1"}
        assert found.pop(records[1]) == {b"": records[1], b"k": b"more"}
        assert found == {record: {b"": record} for record in records if record != records[1]}
        events = await case.events(space)
        assert sorted(event.record for event in events) == sorted([*records, records[1], b"wide", b"one"])
        assert (await case.store.usage(space)).records == 232

    bench.run(story)
