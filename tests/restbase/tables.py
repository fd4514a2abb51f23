"""RESTBase's operations on tables, carried out on the storage service through its SDK.

A row is one item of a CAS namespace: a put reads the row, merges its attributes into what is there as Cassandra's
columns would be, and writes it back on the condition that it is still so. Conditions (``if``) are judged on the same
reading.
"""

import datetime
import json
from collections.abc import Mapping
from typing import Any

import wellspring_client
from tests.restbase import kinds, rows
from tests.restbase.catalog import Catalog, Table
from tests.restbase.refusals import Refused
from wellspring.storage.v1 import storage_pb2 as pb
from wellspring_client import aio

Answer = dict[str, Any]
Told = Mapping[str, Any]
_MOST_TRIES = 100
_DEFAULT_LIMIT = 1_000


class Tables:
    """The tables of a storage service. Every operation answers {"status": …, "body": …} or raises Refused."""

    def __init__(self, client: aio.Client, catalog: Catalog) -> None:
        self._client = client
        self._catalog = catalog

    async def answer(self, operation: str, domain: str, table: str, body: Told) -> Answer:
        """Carries out an operation of the specification by its name."""
        if operation == "createTable":
            await self._catalog.create(domain, table, body)
            return {"status": 201}
        if operation == "dropTable":
            await self._catalog.drop(domain, table)
            return {"status": 204}
        found = await self._catalog.find(domain, table)
        if operation == "getTableSchema":
            return {"status": 200, "headers": {"etag": str(found.schema.version)}, "body": found.told}
        known = {"get": self._get, "put": self._put, "delete": self._delete}.get(operation)
        if known is None:
            raise Refused(500, f"there is no operation {operation!r}")
        return await known(found, domain, body)

    async def _put(self, table: Table, domain: str, body: Told) -> Answer:
        schema, told = table.schema, dict(body.get("attributes") or {})
        ttl_s = told.pop("_ttl", None)
        for name in told:
            if name not in schema.attributes:
                raise Refused(500, f"there is no attribute {name!r}")
        record, key = rows.record(schema, domain, told), rows.row(schema, told)
        given = {name: kinds.kept(name, schema.attributes[name], value) for name, value in told.items()}
        shared = {name: value for name, value in given.items() if name in schema.static}
        own = {name: value for name, value in given.items() if name not in schema.static}
        ttl = None if ttl_s is None else datetime.timedelta(seconds=int(ttl_s))
        space = self._client.storage.namespace(table.namespace)
        for _ in range(_MOST_TRIES):
            there = await self._items(table, record, [rows.SHARED, key])
            before = _values(there.get(key))
            if not _may(table, body.get("if"), before, _values(there.get(rows.SHARED))):
                return {"status": 201}
            changes = [_merged(key, there.get(key), own, ttl)]
            if shared:
                changes.append(_merged(rows.SHARED, there.get(rows.SHARED), shared, None))
            try:
                await space.mutate(record, changes)
            except wellspring_client.ConditionFailed:
                continue
            return {"status": 201}
        raise Refused(500, f"the row was changed by others {_MOST_TRIES} times in a row")

    async def _get(self, table: Table, domain: str, body: Told) -> Answer:
        schema, wanted = table.schema, body.get("attributes") or {}
        if body.get("index"):
            raise Refused(500, f"there is no secondary index {body['index']!r}: they are not supported")
        names = _projection(table, body.get("proj"))
        record, span = rows.record(schema, domain, wanted), rows.span(schema, wanted)
        request = pb.GetRequest(record=record)
        request.selection.range.start, request.selection.range.end = span.start, span.end
        request.selection.reverse = _reversed(table, body.get("order") or {})
        request.page_token = body.get("next") or ""
        left = int(body.get("limit") or _DEFAULT_LIMIT)
        found: list[pb.Item] = []
        while True:
            request.limits.max_items = min(left - len(found), _DEFAULT_LIMIT)
            page = await self._client.storage.namespace(table.namespace).read(request)
            found += page.items
            request.page_token = page.next_page_token
            if not page.next_page_token or len(found) >= left:
                break
        shared = _values((await self._items(table, record, [rows.SHARED])).get(rows.SHARED)) or {} if found else {}
        items = [_row(names, item, shared, told_ttl=bool(body.get("withTTL"))) for item in found]
        answer: Answer = {"items": items} | ({"next": request.page_token} if request.page_token else {})
        return {"status": 200 if items else 404, "body": answer}

    async def _delete(self, table: Table, domain: str, body: Told) -> Answer:
        schema, wanted = table.schema, body.get("attributes") or {}
        record = rows.record(schema, domain, wanted)
        space = self._client.storage.namespace(table.namespace)
        if wanted.keys() <= {*schema.hash}:
            await space.delete(record, allow_missing=True)
        else:
            span = rows.span(schema, wanted)
            await space.delete(record, start=span.start, end=span.end, allow_missing=True)
        return {"status": 204}

    async def _items(self, table: Table, record: bytes, keys: list[bytes]) -> dict[bytes, pb.Item]:
        request = pb.GetRequest(record=record)
        request.selection.keys.keys.extend(keys)
        page = await self._client.storage.namespace(table.namespace).read(request)
        return {item.key: item for item in page.items}


def _values(item: pb.Item | None) -> dict[str, Any] | None:
    if item is None:
        return None
    kept: dict[str, Any] = json.loads(item.value)
    return kept


def _may(table: Table, condition: Any, row: Told | None, shared: Told | None) -> bool:
    """Whether a put's ``if`` lets it be done."""
    if condition is None:
        return True
    if isinstance(condition, str):
        if condition.lower().split() != ["not", "exists"]:
            raise Refused(500, f"a put cannot be conditional on {condition!r}")
        return row is None
    return rows.holds(table.schema, condition, None if row is None else {**(shared or {}), **row})


def _merged(
    key: bytes, there: pb.Item | None, given: Mapping[str, Any], ttl: datetime.timedelta | None
) -> wellspring_client.Put:
    """``given`` over what is there; null takes an attribute away."""
    values = {name: value for name, value in {**(_values(there) or {}), **given}.items() if value is not None}
    return wellspring_client.Put(
        json.dumps(values).encode(),
        key=key,
        ttl=ttl,
        if_absent=there is None,
        if_etag=there.etag if there is not None else None,
    )


def _projection(table: Table, asked: Any) -> list[str]:
    names = [asked] if isinstance(asked, str) else list(asked or table.schema.attributes)
    for name in names:
        if name not in table.schema.attributes:
            raise Refused(500, f"the projection names {name!r}, which the schema does not have")
    return names


def _reversed(table: Table, order: Mapping[str, Any]) -> bool:
    """Whether rows are wanted against the order in which they lie. Raises Refused."""
    against = set()
    for name, way in order.items():
        if way not in ("asc", "desc"):
            raise Refused(500, f"the order of {name!r} is {way!r}; asc and desc are allowed")
        if name not in table.schema.range:
            raise Refused(500, f"rows cannot be ordered by {name!r}, which is no range key")
        against.add((way == "desc") != table.schema.range[name])
    if len(against) > 1:
        raise Refused(500, "rows can be read in the order of the index, or in its reverse")
    return against == {True}


def _row(names: list[str], item: pb.Item, shared: Told, *, told_ttl: bool) -> Answer:
    values = {**shared, **(_values(item) or {})}
    found: Answer = {name: values.get(name) for name in names}
    if told_ttl and item.HasField("expire_time"):
        left = item.expire_time.ToDatetime(datetime.UTC) - datetime.datetime.now(datetime.UTC)
        found["_ttl"] = max(0, round(left.total_seconds()))
    return found
