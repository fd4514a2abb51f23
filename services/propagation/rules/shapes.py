"""Shapes of JSON values, in words of JSON Schema (draft 7): type, required, properties, items, enum, minLength,
maxLength, minimum, maximum, uniqueItems, and the formats date-time and uri-reference.

Members beyond the named ones are allowed: later versions of a published schema add some.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

Shape = Mapping[str, Any]

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (Mapping,),
    "array": (list,),
    "string": (str,),
    "integer": (int, float),
    "boolean": (bool,),
}
_URI_REFERENCE = re.compile(r"[!#$%&'()*+,./:;=?@\[\]_~0-9A-Za-z\u00a0-\U0010ffff-]*")
_MOST_SHOWN = 64


def problem_of(value: object, shape: Shape, path: str = "") -> str:
    """What is wrong with the value, with the path of the member; empty when it is of the shape."""
    named = path or "the event"
    wanted = shape.get("type")
    if wanted is not None and not _is(value, wanted):
        return f"{named} is {_shown(value)}; {wanted} is expected"
    if "enum" in shape and value not in shape["enum"]:
        return f"{named} is {_shown(value)}; one of {', '.join(map(str, shape['enum']))} is expected"
    if isinstance(value, str):
        return _text_problem(value, shape, named)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_problem(value, shape, named)
    if isinstance(value, list):
        return _list_problem(value, shape, path)
    return _object_problem(value, shape, path) if isinstance(value, Mapping) else ""


def _is(value: object, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[wanted])


def _text_problem(value: str, shape: Shape, named: str) -> str:
    if not shape.get("minLength", 0) <= len(value) <= shape.get("maxLength", len(value)):
        most = f" to {shape['maxLength']:,}" if "maxLength" in shape else " and more"
        return f"{named} has {len(value):,} characters; {shape.get('minLength', 0)}{most} are expected"
    match shape.get("format"):
        case "date-time" if not _is_time(value):
            return f"{named} is {_shown(value)}; a time of ISO 8601 with its zone is expected"
        case "uri-reference" if _URI_REFERENCE.fullmatch(value) is None:
            return f"{named} is {_shown(value)}; an address is expected"
    return ""


def _is_time(value: str) -> bool:
    try:
        return "T" in value.upper() and datetime.fromisoformat(value.upper()).tzinfo is not None
    except ValueError:
        return False


def _number_problem(value: float, shape: Shape, named: str) -> str:
    low, high = shape.get("minimum", value), shape.get("maximum", value)
    return "" if low <= value <= high else f"{named} is {value}; {low:,} to {high:,} are expected"


def _list_problem(value: list[object], shape: Shape, path: str) -> str:
    if shape.get("uniqueItems") and any(one in value[:at] for at, one in enumerate(value)):
        return f"{path} has a member twice"
    items = shape.get("items")
    if items is None:
        return ""
    return next((found for at, one in enumerate(value) if (found := problem_of(one, items, f"{path}[{at}]"))), "")


def _object_problem(value: Mapping[str, object], shape: Shape, path: str) -> str:
    before = f"{path}." if path else ""
    for name in shape.get("required", ()):
        if name not in value:
            return f"{before}{name} is missing"
    for name, member in shape.get("properties", {}).items():
        if name in value and (found := problem_of(value[name], member, before + name)):
            return found
    return ""


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f'"{value[:_MOST_SHOWN]}"'
    return json.dumps(value)[:_MOST_SHOWN]
