"""Puts taken in columns write what single ones write, whatever their records hold."""

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.storage.domain.commands import body_digest, put_digests
from services.storage.domain.model import (
    ALL,
    Command,
    Condition,
    ConditionKind,
    Delete,
    Mode,
    Put,
    Receipt,
    Selection,
    WriteToken,
)
from services.storage.domain.namespace import Namespace, Settings
from services.storage.store import columns, events, layout, runs
from services.storage.store.alike import Alike
from services.storage.store.interface import Write
from services.storage.store.local import LocalOptions, LocalStore
from services.storage.store.memory import MemoryKv
from services.storage.store.turn import parse_token

START_US = 1_700_000_000_000_000
Take = Callable[..., list[Receipt | None]]
Told = list[Any]


def batches(seed: int, space: Namespace) -> list[Alike]:
    """Puts of few records, most of them plain; now and then the same again, or with another body."""
    chance = random.Random(seed)
    made: list[Alike] = []
    for number in range(60):
        if made and chance.random() < 0.15:
            old = chance.choice([made[-1], chance.choice(made)])
            keep = chance.randrange(1, len(old) + 1)
            values = [b"other" if chance.random() < 0.2 else value for value in old.values[:keep]]
            records = list(old.records[:keep])
            if chance.random() < 0.5:  # the same token with records that it did not come with before
                more = [b"n%d" % n for n in chance.sample(range(30), 5)]
                records += [record for record in more if record not in records]
                values += [b"more"] * (len(records) - len(values))
            made.append(alike(space, old.token, old.pattern, records, values))
            continue
        token = WriteToken(START_US + number * 10 + chance.randrange(-40, 40), chance.randbytes(16))
        pattern = Put(b"", b"")
        kind = chance.random()
        if kind < 0.05:
            pattern = Put(b"k", b"")
        elif kind < 0.1:
            pattern = pattern._replace(expire_us=START_US + number * 10 + 200)
        elif kind < 0.4:
            pattern = pattern._replace(content_type="text/html", attributes=(("k", "v"),) * chance.randrange(2))
        if space.settings.mode is Mode.LWW and chance.random() < 0.5:
            version = (chance.choice([START_US, 0]) + chance.randrange(4) * 150).to_bytes(8, "big") + bytes(8)
            pattern = pattern._replace(condition=Condition(ConditionKind.OLDER_THAN, version))
        elif space.settings.mode is Mode.CAS and chance.random() < 0.3:
            pattern = pattern._replace(condition=Condition(ConditionKind.ABSENT))
        records = [b"r%d" % n for n in chance.sample(range(4000 if kind > 0.8 else 60), chance.randrange(1, 25))]
        values = [b"v" * chance.choice([0, 1, 100, 300, 16_000, 17_000]) for _ in records]
        made.append(alike(space, token, pattern, records, values))
    return made


def alike(space: Namespace, token: WriteToken, pattern: Put, records: list[bytes], values: list[bytes]) -> Alike:
    return Alike(space, token, pattern, records, values, put_digests(pattern, values))


def others(space: Namespace, number: int, now_us: int) -> list[Write]:
    """An item beside the flat one, or its delete, whose version stays behind when its grace is over; or all deleted."""
    token = WriteToken(now_us + 15, number.to_bytes(16, "big"))
    puts: tuple[Put, ...] = ()
    deletes: tuple[Delete, ...] = ()
    if number % 2:
        puts = (Put(b"a", b"1"),)
    else:
        deletes = (Delete(ALL if number % 30 == 0 else Selection((b"a",))),)
    body = body_digest(puts, deletes, None, None)
    records = [b"r%d" % (number * n % 60) for n in range(1, 6)]
    return [Write(space, Command(record, token, puts, deletes, (0,), body)) for record in records]


def told(result: Any) -> Any:
    """An answer without its place in the feed."""
    return result._replace(sequence=0) if isinstance(result, Receipt) else (type(result), result.message)


def play(mode: Mode, seed: int, take: Take, each: Callable[[Alike], Any]) -> tuple[Told, dict[str, Any], int]:
    """What was answered, what the store holds in the end, and how many were taken in columns."""
    taken = 0

    def counting(*arguments: Any, **named: Any) -> list[Receipt | None]:
        nonlocal taken
        receipts = take(*arguments, **named)
        taken += sum(receipt is not None for receipt in receipts)
        return receipts

    async def story() -> tuple[Told, dict[str, Any]]:
        kv = MemoryKv()
        now_us = START_US
        store = LocalStore(kv, lambda: now_us, LocalOptions(grace_us=30))
        space = await store.create_namespace(Settings("a", mode), now_us)
        answers: Told = []
        for number, puts in enumerate(batches(seed, space)):
            now_us += 10
            answers += map(told, await store.mutate(each(puts)))
            if number % 3 == 0:
                answers += map(told, await store.mutate(others(space, number, now_us)))
            while await store.sweep(now_us, 1000):
                pass
        held = {name: dict(sorted(family.values.items())) for name, family in kv._families.items()}
        held["tokens"] = dict(each_token(held["tokens"]))
        check_feed(kv, held["tokens"], space.number)
        return answers, held

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "take", counting)
        answers, held = asyncio.run(story())
    # Those of one batch that are not plain come behind the others: the same changes, with other numbers.
    held["feed"] = sorted(events.encode(change) for row in held["feed"].values() for change in runs.changes(row))
    held["tokens"] = {key: parse_token(row)._replace(sequence=0) for key, row in held["tokens"].items()}
    return answers, held, taken


def each_token(held: dict[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and rows of tokens, those that share a row each for itself."""
    for key, row in held.items():
        if len(key) > layout.TOKEN_HEAD:
            yield key, row
        else:
            yield from ((key + record, own) for record, own in runs.tokens(row))


def check_feed(kv: MemoryKv, tokens: dict[bytes, bytes], number: int) -> None:
    """A put that is remembered with a place in the feed has its change there."""
    for key, row in tokens.items():
        token = parse_token(row)
        if token.sequence:
            change = runs.change(kv.family("feed"), number, token.sequence)
            assert change is not None and change.version == token.version
            assert key == layout.token_key(number, layout.token_time(key), key[12:28], change.record)


def not_at_all(*arguments: Any, apart: bool) -> list[Receipt | None]:
    return [None] * len(arguments[3])


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("seed", range(5))
def test_columns_and_single_puts_write_the_same(mode: Mode, seed: int) -> None:
    *single, none = play(mode, seed, columns.take, list)
    *left, no_more = play(mode, seed, not_at_all, lambda puts: puts)
    *quick, taken = play(mode, seed, columns.take, lambda puts: puts)
    assert none == no_more == 0
    assert taken > 100 if mode is Mode.LWW else taken == 0
    assert left == single
    assert quick == single


def test_as_a_sequence_it_holds_the_write_of_each() -> None:
    space = Namespace(Settings("a", Mode.LWW), 7, 0)
    token, pattern = WriteToken(START_US, bytes(16)), Put(b"k", b"", "text/html", (("a", "b"),), 5)
    puts = alike(space, token, pattern, [b"x", b"y", b"z"], [b"1", b"2" * 300, b""])
    for index, (record, value) in enumerate(((b"x", b"1"), (b"y", b"2" * 300), (b"z", b""))):
        put = Put(b"k", value, "text/html", (("a", "b"),), 5)
        command = Command(record, token, (put,), (), (0,), body_digest((put,), (), None, None))
        assert puts[index] == puts[index - 3] == Write(space, command)
    assert list(puts) == puts[:] and len(puts[1:]) == 2 and len(puts) == 3
    with pytest.raises(IndexError):
        puts[3]
