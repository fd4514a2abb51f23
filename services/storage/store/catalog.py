"""The namespaces in the store: their settings as JSON, by name, and the next number."""

import dataclasses
import functools
import json
import secrets
import struct
from collections.abc import Callable
from typing import Any, Final

from services.storage.domain.model import Mode
from services.storage.domain.namespace import (
    Binding,
    Cache,
    Caller,
    Consistency,
    Namespace,
    Placement,
    Quota,
    Retention,
    Settings,
)
from services.storage.store import layout
from services.storage.store.families import Families
from services.storage.store.kv import Kv
from services.storage.store.ledger import Ledger, usage_key

_NUMBER: Final = struct.Struct(">I")


class Catalog:
    """Reads and writes the namespaces."""

    def __init__(self, kv: Kv, families: Families, ledger: Ledger) -> None:
        self._kv = kv
        self._families = families
        self._ledger = ledger
        self.by_number: dict[int, Namespace] = {space.number: space for space in self._load()}

    def all(self) -> list[Namespace]:
        """By name."""
        return sorted(self.by_number.values(), key=lambda space: space.name)

    async def create(self, settings: Settings, now_us: int, *, restoring: bool = False) -> Namespace:
        """As ``Store.create_namespace``."""
        row = self._families.meta.get(layout.META_NUMBER)
        number = 1 if row is None else int(_NUMBER.unpack(row)[0])
        space = Namespace(settings, number, now_us, restoring=restoring)
        batch = self._kv.batch()
        batch.put(self._families.meta, layout.META_NUMBER, _NUMBER.pack(number + 1))
        batch.put(self._families.meta, _key(space), encode(space))
        durable = self._kv.submit(batch)
        self.by_number[number] = space
        await durable
        return space

    async def replace(self, space: Namespace) -> None:
        """As ``Store.replace_namespace``."""
        batch = self._kv.batch()
        batch.put(self._families.meta, _key(space), encode(space))
        durable = self._kv.submit(batch)
        self.by_number[space.number] = space
        await durable

    async def purge(self, space: Namespace) -> None:
        """As ``Store.purge_namespace``: one range a family, in one batch."""
        batch = self._kv.batch()
        for name in layout.BY_NAMESPACE:
            start, end = layout.prefix(space.number), layout.after_prefix(space.number)
            batch.delete_range(getattr(self._families, name), start, end)
        batch.delete(self._families.meta, usage_key(space.number))
        batch.delete(self._families.meta, _key(space))
        durable = self._kv.submit(batch)
        self.by_number.pop(space.number, None)
        self._ledger.forget(space.number)
        await durable

    async def signing_key(self) -> bytes:
        """As ``Store.signing_key``."""
        key = self._families.meta.get(layout.META_KEY)
        if key is None:
            key = secrets.token_bytes(32)
            batch = self._kv.batch()
            batch.put(self._families.meta, layout.META_KEY, key)
            await self._kv.submit(batch)
        return key

    def _load(self) -> list[Namespace]:
        return [decode(row) for _, row in self._families.meta.scan(layout.META_NAMESPACE)]


def encode(space: Namespace) -> bytes:
    """The row of a namespace."""
    return json.dumps(dataclasses.asdict(space), default=lambda value: value.value, sort_keys=True).encode()


@functools.lru_cache(maxsize=4096)
def decode(row: bytes) -> Namespace:
    """The namespace in a row. Kept: a backend that makes an engine for each step asks for the same ones again and
    again."""
    fields = json.loads(row)
    settings = fields.pop("settings")
    settings["mode"] = Mode(settings["mode"])
    settings["default_consistency"] = Consistency(settings["default_consistency"])
    settings["placement"]["datacentres"] = tuple(settings["placement"]["datacentres"])
    settings["labels"] = _pairs(settings["labels"])
    settings["callers"] = tuple(Caller(**caller) for caller in settings["callers"])
    if settings["binding"] is not None:
        settings["binding"]["item_aspects"] = _pairs(settings["binding"]["item_aspects"])
        settings["binding"] = Binding(**settings["binding"])
    parts: dict[str, Callable[..., Any]] = {
        "placement": Placement,
        "retention": Retention,
        "quota": Quota,
        "cache": Cache,
    }
    for name, part in parts.items():
        settings[name] = part(**settings[name])
    return Namespace(settings=Settings(**settings), **fields)


def _pairs(pairs: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in pairs)


def _key(space: Namespace) -> bytes:
    return layout.META_NAMESPACE + space.name.encode()
