"""Conditions on events: what a field must be, compiled from the rules file.

A condition is a mapping of fields: each must hold. A plain value must be equal, of the same type; a pattern must be
found in a text; a list says that each of its members is found somewhere in the event's list, in any order; the text
`undefined` says that the field is absent. Several mappings in a list: one of them must hold.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from libs.config import tree
from services.propagation.rules.patterns import PatternInvalid, captured, compile_pattern, is_pattern
from services.propagation.rules.reading import Reader


class _Absent:
    """The value of a field that is not there, and the answer of a condition that does not hold."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


class _Unknown:
    """A value that is not known, and the answer of a condition on it."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()

Condition = Callable[[object], object]
"""Takes a value (ABSENT: none) and answers what templates may see of it, or ABSENT when it does not hold; UNKNOWN where
something that is not known decides."""


def compile_condition(reader: Reader, node: Node, path: str) -> Condition:
    """The condition that the node stands for; mistakes go to the reader."""
    if isinstance(node, MappingNode):
        fields = {
            name: compile_condition(reader, value, f"{path}.{name}")
            for name, value in reader.entries(node, path).items()
        }
        return lambda value: _fields(fields, value)
    if isinstance(node, SequenceNode):
        members = [compile_condition(reader, value, f"{path}[{at}]") for at, value in enumerate(node.value)]
        return lambda value: _members(members, value)
    return _plain(reader, node, path)


def compile_any(reader: Reader, node: Node, path: str) -> Condition:
    """One of the conditions of a list, or the only one."""
    for member in reader.members(node):
        if not isinstance(member, MappingNode) and not tree.is_null(member):
            reader.wrong(member, path, "is no condition", "a mapping of fields, or a list of such mappings")
    conditions = [compile_condition(reader, member, path) for member in reader.members(node)]
    conditions = conditions or [lambda _: ABSENT]
    return lambda value: _any(conditions, value)


def _any(conditions: list[Condition], value: object) -> object:
    perhaps: object = ABSENT
    for condition in conditions:
        found = condition(value)
        if found is UNKNOWN:
            perhaps = UNKNOWN
        elif found is not ABSENT:
            return found
    return perhaps


def _plain(reader: Reader, node: Node, path: str) -> Condition:
    holds = _plain_known(reader, node, path)
    return lambda value: UNKNOWN if value is UNKNOWN else holds(value)


def _plain_known(reader: Reader, node: Node, path: str) -> Condition:
    wanted = reader.plain(node, path)
    if not isinstance(node, ScalarNode) or not isinstance(wanted, str):
        return lambda value: value if _same(value, wanted) else ABSENT
    if wanted == "undefined":
        return lambda value: "" if value is ABSENT else ABSENT
    if not is_pattern(wanted):
        return lambda value: value if value == wanted else ABSENT
    try:
        pattern = compile_pattern(wanted)
    except PatternInvalid as problem:
        reader.wrong(node, path, problem.what, problem.allowed)
        return lambda _: ABSENT

    def search(value: object) -> object:
        found = pattern.search(value) if isinstance(value, str) else None
        return captured(found) if found is not None else ABSENT

    return search


def _fields(fields: Mapping[str, Condition], value: object) -> object:
    if not isinstance(value, Mapping):
        return value if value is UNKNOWN else ABSENT
    seen: dict[str, object] = {}
    for name, condition in fields.items():
        found = condition(value.get(name, ABSENT))
        if found is ABSENT:
            return ABSENT
        seen[name] = found
    return UNKNOWN if any(found is UNKNOWN for found in seen.values()) else seen


def _members(members: list[Condition], value: object) -> object:
    if not isinstance(value, list):
        return value if value is UNKNOWN else ABSENT
    perhaps = False
    for condition in members:
        found = [answer for member in value if (answer := condition(member)) is not ABSENT]
        if not found:
            return ABSENT
        perhaps = perhaps or all(answer is UNKNOWN for answer in found)
    return UNKNOWN if perhaps else value


def _same(value: object, wanted: Any) -> bool:
    """Equal and of the same type; whole and broken numbers are one type, truth values are not numbers."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return value == wanted
    return value is None and wanted is None
