"""The quick path of flat puts writes byte for byte what the general one writes, and refuses what it cannot."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from services.storage.domain.commands import body_digest
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
from services.storage.domain.namespace import Settings
from services.storage.store.flat import FlatPuts
from services.storage.store.interface import Write
from services.storage.store.local import LocalStore
from services.storage.store.memory import MemoryKv

START_US = 1_700_000_000_000_000


def commands(seed: int, mode: Mode, count: int) -> list[Command]:
    """Mutations of few records, most of them plain flat puts."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        token = WriteToken(START_US + number * 10 + chance.randrange(-40, 40), chance.randbytes(16))
        puts: tuple[Put, ...] = (Put(b"", b"v" * chance.choice([0, 1, 100, 15_000, 20_000])),)
        deletes: tuple[Delete, ...] = ()
        kind = chance.random()
        if kind < 0.1:
            puts, deletes = (), (Delete(chance.choice([ALL, Selection((b"",)), Selection((b"a", b"b"))])),)
        elif kind < 0.2:
            puts = (Put(b"a", b"1"), *puts)
        elif kind < 0.25:
            puts = (puts[0]._replace(expire_us=START_US + number * 10 + 200),)
        elif kind < 0.4:
            puts = (puts[0]._replace(content_type="text/html", attributes=(("k", "v"),) * chance.randrange(2)),)
        if mode is Mode.LWW and puts and kind > 0.3 and chance.random() < 0.5:
            # Renders: a few versions that go up and down, beside and between the times of the tokens.
            version = (chance.choice([START_US, 0]) + chance.randrange(600)).to_bytes(8, "big") + bytes(8)
            puts = (*puts[:-1], puts[-1]._replace(condition=Condition(ConditionKind.OLDER_THAN, version)))
        notes = chance.choice([None, {}, {"who": "me", "a": "ä"}])
        record = b"record%d" % chance.randrange(3000 if kind > 0.5 else 4)
        made.append(
            Command(record, token, puts, deletes, tuple(range(len(puts) + len(deletes))),
                    body_digest(puts, deletes, None, notes), None, notes)
        )  # fmt: skip
    return made


def contents(mode: Mode, seed: int, put_flat: Callable[..., Receipt | None]) -> tuple[dict[str, Any], int]:
    """Everything that a store holds after the commands, and how many the quick path took."""
    taken = 0

    def counting(*arguments: Any) -> Receipt | None:
        nonlocal taken
        receipt = put_flat(*arguments)
        taken += receipt is not None
        return receipt

    async def story() -> dict[str, Any]:
        kv = MemoryKv()
        now_us = START_US
        store = LocalStore(kv, lambda: now_us)
        space = await store.create_namespace(Settings("a", mode), now_us)
        for command in commands(seed, mode, 600):
            now_us += 10
            await store.mutate([Write(space, command)])
        return {name: dict(sorted(family.values.items())) for name, family in kv._families.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlatPuts, "put", counting)
        return asyncio.run(story()), taken


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("seed", range(5))
def test_both_paths_write_the_same(mode: Mode, seed: int) -> None:
    quick, taken = contents(mode, seed, FlatPuts.put)
    general, none = contents(mode, seed, lambda *_: None)
    assert none == 0 and taken > 150, "the quick path was not taken"
    assert quick == general
