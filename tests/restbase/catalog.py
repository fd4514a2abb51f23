"""Which tables there are: a record each in a namespace of their own, and the namespace that holds a table's rows."""

import datetime
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import wellspring_client
from tests.restbase import schema
from tests.restbase.refusals import Refused
from tests.restbase.schema import Schema
from wellspring_client import aio

_CATALOG = "restbase-catalog"
EVERY_DOMAIN = "*"
_DROPPED: dict[str, Any] = {}
"""Of a domain that dropped its own table where there is one of all domains."""


@dataclass(frozen=True)
class Table:
    """A table: its schema as it was given, and read; the namespace of its rows."""

    told: Mapping[str, Any]
    schema: Schema
    namespace: str


class Catalog:
    """The tables of a storage service."""

    def __init__(self, client: aio.Client) -> None:
        self._client = client
        self._names = client.storage.namespace(_CATALOG)

    async def open(self) -> None:
        """Makes the namespace of the tables if it is not there."""
        await self._client.storage.create_namespace(_CATALOG, mode="CAS")

    async def find(self, domain: str, table: str) -> Table:
        """The domain's own table, or that of all domains. Raises Refused."""
        for name in (domain, EVERY_DOMAIN):
            found = await self._names.get(_record(name, table))
            if found is not None and (kept := json.loads(found.value)):
                return Table(kept["schema"], schema.read(kept["schema"]), kept["namespace"])
            if found is not None:
                break
        raise _missing(domain, table)

    async def create(self, domain: str, table: str, told: Mapping[str, Any]) -> None:
        """Makes a table, or gives the one that is there another schema. Raises Refused."""
        wanted = schema.read(told)
        there = await self._names.get(_record(domain, table))
        kept = json.loads(there.value) if there else _DROPPED
        if kept == _DROPPED:
            namespace = f"restbase-{uuid.uuid4().hex[:16]}"
            await self._client.storage.create_namespace(namespace, mode="CAS")
        else:
            if kept["schema"] == told:
                return
            schema.check_change(schema.read(kept["schema"]), wanted)
            namespace = kept["namespace"]
        body = json.dumps({"schema": told, "namespace": namespace}).encode()
        try:
            await self._names.put(
                _record(domain, table), body, if_absent=there is None, if_etag=there.etag if there else None
            )
        except wellspring_client.ConditionFailed:
            raise Refused(500, f"the table {table!r} is being changed by somebody else") from None

    async def drop(self, domain: str, table: str) -> None:
        """Removes a table and its rows; for all domains, those of single ones too. A domain that drops its own does not
        get that of all domains in its place. Raises Refused."""
        if domain == EVERY_DOMAIN:
            names = [record.key.decode() async for record in self._names.scan(prefix=_record("", table))]
        else:
            names = [_record(domain, table)]
        found = [one for one in await self._names.get_many(names) if one is not None]
        if not found:
            raise _missing(domain, table)
        for name, one in zip(names, found, strict=True):
            if domain != EVERY_DOMAIN and await self._names.get(_record(EVERY_DOMAIN, table)) is not None:
                await self._names.put(name, json.dumps(_DROPPED).encode())
            else:
                await self._names.delete(name, allow_missing=True)
            if kept := json.loads(one.value):
                await self._client.storage.delete_namespace(
                    kept["namespace"], grace=datetime.timedelta(), allow_missing=True
                )


def _missing(domain: str, table: str) -> Refused:
    return Refused(500, f"there is no table {table!r} for {domain!r}")


def _record(domain: str, table: str) -> str:
    return f"{table}/{domain}"
