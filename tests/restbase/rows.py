"""Where a row lies: a partition is a record, its rows are items, what its rows share is the item with the empty key.

A record's key is the domain and the hash key, an item's the range key, each part in bytes that sort as its type does
(descending ones complemented), so that a range of rows is a range of items.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.restbase import kinds
from tests.restbase.refusals import Refused
from tests.restbase.schema import Schema

SHARED = b""
"""The item of a partition's static attributes."""
_ROW = b"\x01"
"""Before every row's key."""
_COMPARISONS = ("lt", "le", "gt", "ge")


class Span(NamedTuple):
    """Items [start, end); ``one``: exactly one row is named."""

    start: bytes
    end: bytes
    one: bool


def record(schema: Schema, domain: str, attributes: Mapping[str, Any]) -> bytes:
    """The partition of a row or a query. Raises Refused when the hash key is not there whole."""
    key = kinds.text_key(domain)
    for name in schema.hash:
        value = attributes.get(name)
        if isinstance(value, dict) and [*value] == ["eq"]:
            value = value["eq"]
        if value is None:
            raise Refused(500, f"the hash key {name!r} is missing")
        key += kinds.key(name, schema.attributes[name], value)
    return key


def row(schema: Schema, attributes: Mapping[str, Any]) -> bytes:
    """The item of a row. Raises Refused when the range key is not there whole."""
    key = _ROW
    for name, descending in schema.range.items():
        if attributes.get(name) is None:
            raise Refused(500, f"the range key {name!r} is missing")
        key += kinds.key(name, schema.attributes[name], attributes[name], descending=descending)
    return key


def span(schema: Schema, wanted: Mapping[str, Any]) -> Span:
    """The rows that a query's attributes leave: equality from the first range key on, then comparisons of one. Raises
    Refused."""
    for name in wanted:
        if name not in schema.keys:
            raise Refused(500, f"attribute {name!r} is not part of the primary key and can't be in a condition")
    prefix, left = _ROW, dict(schema.range)
    while left:
        name = next(iter(left))
        compared = _comparisons(wanted.get(name))
        if [*compared] != ["eq"]:
            break
        descending = left.pop(name)
        prefix += kinds.key(name, schema.attributes[name], compared["eq"], descending=descending)
    if not left:
        return Span(prefix, kinds.after(prefix), one=True)
    name, *behind = left
    for other in behind:
        if wanted.get(other) is not None:
            raise Refused(500, f"attribute {other!r} has a condition, and {name!r} before it is not fixed")
    return _compared(schema, prefix, name, _comparisons(wanted.get(name)))


def _compared(schema: Schema, prefix: bytes, name: str, compared: Mapping[str, Any]) -> Span:
    start, end = prefix, kinds.after(prefix)
    descending = schema.range[name]
    for how, value in compared.items():
        if how not in _COMPARISONS:
            raise Refused(500, f"attribute {name!r}: {how!r} cannot stand here")
        at = prefix + kinds.key(name, schema.attributes[name], value, descending=descending)
        behind = kinds.after(at)
        if (how[0] == "g") != descending:
            start = max(start, at if how[1] == "e" else behind)
        else:
            end = min(end, behind if how[1] == "e" else at)
    return Span(start, max(start, end), one=False)


def _comparisons(value: Any) -> dict[str, Any]:
    """What is asked of one attribute: "eq", or any of lt, le, gt, ge."""
    if value is None:
        return {}
    if not isinstance(value, dict) or "$blob" in value:
        return {"eq": value}
    asked: dict[str, Any] = {}
    for how, operand in value.items():
        if how.lower() == "between":
            asked["ge"], asked["le"] = operand
        elif how.lower() in ("eq", *_COMPARISONS):
            asked[how.lower()] = operand
        else:
            raise Refused(500, f"there is no comparison {how!r}")
    return asked


def holds(schema: Schema, condition: Mapping[str, Any], found: Mapping[str, Any] | None) -> bool:
    """Whether a put's ``if`` holds of the row that is there. Raises Refused."""
    for name, value in condition.items():
        if name not in schema.attributes:
            raise Refused(500, f"there is no attribute {name!r}")
        compared = _comparisons(value)
        if [*compared] != ["eq"]:
            raise Refused(500, f"attribute {name!r}: a put's condition can only be equality")
        if found is None or found.get(name) != kinds.kept(name, schema.attributes[name], compared["eq"]):
            return False
    return True
