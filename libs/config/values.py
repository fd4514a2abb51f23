"""One scalar of a configuration, from its text to the field's value, with its rule checked."""

import math
import re
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration

from libs.config import fields
from libs.config.mistakes import suggest
from libs.config.units import parse_duration, parse_size
from wellspring.config.v1 import rule_pb2

_INTEGER = re.compile(r"[+-]?[0-9][0-9_]*")
_BOOLEANS = {"true": True, "false": False}


class Wrong(Exception):
    """A text that the field may not hold: what is there, and what is allowed."""

    def __init__(self, what: str, allowed: str) -> None:
        super().__init__(what, allowed)
        self.what = what
        self.allowed = allowed


def parse(field: FieldDescriptor, text: str, rule: rule_pb2.Rule | None = None) -> Any:
    """The value of ``field`` (of one member, when it is repeated) that ``text`` stands for. Raises Wrong.

    ``rule`` is what to check instead of the field's own rule: that of the map, for a map's values.
    """
    rule = rule if rule is not None else fields.rule(field)
    value = _parse(field, text, rule)
    _check(field, text, value, rule)
    if fields.is_duration(field):
        message = Duration()
        message.FromNanoseconds(value)
        return message
    return value


def expected(field: FieldDescriptor, rule: rule_pb2.Rule | None = None) -> str:
    """In words, what ``field`` may hold."""
    rule = rule if rule is not None else fields.rule(field)
    low, high = rule.min, rule.max
    span = (
        f" from {low} to {high}"
        if low and high
        else f" of at least {low}"
        if low
        else f" of at most {high}"
        if high
        else ""
    )
    if field.enum_type is not None:
        return "one of " + ", ".join(fields.enum_names(field.enum_type))
    if fields.is_duration(field):
        return f"a duration{span}"
    if rule.size:
        return f"a size{span}"
    if fields.integer_range(field):
        return f"a whole number{span}"
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return f"a number{span}"
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true or false"
    return rule.pattern_means or "a text"


def _parse(field: FieldDescriptor, text: str, rule: rule_pb2.Rule) -> Any:
    if field.enum_type is not None:
        names = fields.enum_names(field.enum_type)
        if text not in names:
            raise Wrong(f'is "{text}"', suggest(text, names))
        return names[text]
    if field.type == FieldDescriptor.TYPE_STRING:
        return text
    if field.type == FieldDescriptor.TYPE_BYTES:
        return text.encode()
    if field.type == FieldDescriptor.TYPE_BOOL:
        if text not in _BOOLEANS:
            raise _unexpected(field, text, rule)
        return _BOOLEANS[text]
    return _number(field, text, rule)


def _number(field: FieldDescriptor, text: str, rule: rule_pb2.Rule) -> int | float:
    try:
        if fields.is_duration(field):
            return parse_duration(text)
        if rule.size:
            return parse_size(text)
    except ValueError as error:
        raise Wrong(f'is "{text}"', str(error)) from None
    try:
        if fields.integer_range(field) and _INTEGER.fullmatch(text):
            return int(text)
        if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
            number = float(text)
            if math.isfinite(number):
                return number
    except ValueError:
        pass  # said below, with what is allowed
    raise _unexpected(field, text, rule)


def _check(field: FieldDescriptor, text: str, value: Any, rule: rule_pb2.Rule) -> None:
    if rule.pattern and value and not re.fullmatch(rule.pattern, value):
        raise _unexpected(field, text, rule)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high = fields.integer_range(field) or (-math.inf, math.inf)
    if not low <= value <= high:
        raise Wrong(f"is {text}", f"a whole number from {low} to {high} is allowed")
    if (rule.min and value < _number(field, rule.min, rule)) or (rule.max and value > _number(field, rule.max, rule)):
        raise Wrong(f"is {text}", f"{expected(field, rule)} is allowed")


def _unexpected(field: FieldDescriptor, text: str, rule: rule_pb2.Rule) -> Wrong:
    return Wrong(f'is "{text}"', f"{expected(field, rule)} is allowed")
