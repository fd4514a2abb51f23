"""A table's schema: read, checked, and changed only where rows that are there stay readable."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.restbase import kinds
from tests.restbase.refusals import Refused

_INDEX_TYPES = ("hash", "static", "range", "proj")


@dataclass(frozen=True)
class Schema:
    """``hash``, ``range`` (name -> whether it descends) and ``static``: the attributes that the index names."""

    attributes: Mapping[str, str]
    hash: tuple[str, ...]
    range: Mapping[str, bool]
    static: frozenset[str]
    version: int

    @property
    def keys(self) -> tuple[str, ...]:
        """The attributes that name a row."""
        return self.hash + tuple(self.range)


def read(told: Mapping[str, Any]) -> Schema:
    """The schema of a request. Raises Refused."""
    attributes = told.get("attributes")
    if not isinstance(attributes, dict) or not attributes:
        raise Refused(500, "a schema needs attributes")
    for name, kind in attributes.items():
        if kind not in kinds.NAMES:
            raise Refused(500, f"attribute {name!r}: there is no type {kind!r}")
    index = told.get("index")
    if not isinstance(index, list) or not index:
        raise Refused(500, "a schema needs an index")
    names = [one.get("attribute") for one in index]
    if len({*names}) != len(names):
        raise Refused(500, "the index names an attribute twice")
    for one in index:
        _check(one, attributes)
    named = {kind: [one for one in index if one["type"] == kind] for kind in _INDEX_TYPES}
    if not named["hash"]:
        raise Refused(500, "the index has no hash key")
    if named["static"] and not named["range"]:
        raise Refused(500, "a static attribute needs a range key")
    return Schema(
        attributes,
        tuple(one["attribute"] for one in named["hash"]),
        {one["attribute"]: one.get("order") == "desc" for one in named["range"]},
        frozenset(one["attribute"] for one in named["static"]),
        int(told.get("version") or 1),
    )


def _check(one: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
    if one["attribute"] not in attributes:
        raise Refused(500, f"the index element {one['attribute']!r} is not in attributes")
    if one.get("type") not in _INDEX_TYPES:
        raise Refused(500, f"the index element {one['attribute']!r} has the type {one.get('type')!r}")
    if one.get("order") not in (None, "asc", "desc"):
        raise Refused(500, f"the index element {one['attribute']!r} has the order {one['order']!r}")


def check_change(old: Schema, new: Schema) -> None:
    """Raises Refused when a table with the schema ``old`` cannot get ``new``: a higher version, the same keys, and no
    attribute of another type or another place. Attributes may come and go."""
    if new.version <= old.version:
        raise Refused(400, f"the table has another schema of version {old.version}: a change needs a higher one")
    if (old.hash, list(old.range.items())) != (new.hash, list(new.range.items())):
        raise Refused(400, "the keys of a table cannot change")
    for name in old.attributes.keys() & new.attributes.keys():
        if old.attributes[name] != new.attributes[name]:
            raise Refused(400, f"the type of attribute {name!r} cannot change")
        if (name in old.static) != (name in new.static):
            raise Refused(400, f"attribute {name!r} cannot begin or cease to be static")
