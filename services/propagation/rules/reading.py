"""The tree of a rules file as plain values, with the place of each mistake kept."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from yaml.constructor import ConstructorError, SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from libs.config import tree
from libs.config.mistakes import Mistake, suggest

_TEXT = "tag:yaml.org,2002:str"
_PLAIN = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null"))

_DURATIONS = (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0))


class Reader:
    """Reads nodes; what is wrong with them gathers in `mistakes`."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []

    def wrong(self, node: Node, path: str, what: str, allowed: str = "") -> None:
        """Notes a mistake at the node."""
        self.mistakes.append(tree.mistake(node, path, what, allowed))

    def entries(
        self, node: Node, path: str, known: Sequence[str] | None = None, refused: Mapping[str, str] | None = None
    ) -> dict[str, Node]:
        """The members of a mapping. `known` are the keys that it may have (None: any), `refused` says of others what
        to use instead."""
        if tree.is_null(node):
            return {}
        if not isinstance(node, MappingNode):
            self.wrong(node, path, f"is {kind(node)}", "a mapping is allowed")
            return {}
        found: dict[str, Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, ScalarNode) else ""
            below = f"{path}.{name}" if path else name
            if not isinstance(key, ScalarNode):
                self.wrong(key, path, f"has {kind(key)} as a key", "keys are texts")
            elif name in found:
                self.wrong(key, below, "is given twice", "one value is allowed")
            elif refused is not None and name in refused:
                self.wrong(key, below, "is not kept here", refused[name])
            elif known is not None and name not in known:
                self.wrong(key, below, "is not a key here", suggest(name, known))
            else:
                found[name] = value
        return found

    def members(self, node: Node) -> list[Node]:
        """The members of a list; anything else is a list of one."""
        return list(node.value) if isinstance(node, SequenceNode) else [node]

    def plain(self, node: Node, path: str) -> Any:
        """Text, number, truth value or null. Notes a mistake and answers None for anything else."""
        if not isinstance(node, ScalarNode) or node.tag not in _PLAIN:
            allowed = "a text, a number, true, false or null is allowed"
            self.wrong(node, path, f"is {kind(node)}", f"{allowed}; a text that looks otherwise is written in quotes")
            return None
        if node.tag.endswith((":int", ":float")) and ":" in node.value:
            return node.value  # YAML 1.1 takes 12:30 for a number to the base 60; nobody means that
        try:
            return SafeConstructor().construct_object(node)
        except (ConstructorError, ValueError):
            self.wrong(node, path, f'"{node.value}" cannot be read', "a text, a number, true, false or null is allowed")
            return None

    def text(self, node: Node, path: str) -> str | None:
        """A text that is not empty."""
        if isinstance(node, ScalarNode) and node.tag in _PLAIN and not tree.is_null(node) and node.value:
            return str(node.value)
        self.wrong(node, path, f"is {kind(node)}", "a text is allowed")
        return None

    def number(self, node: Node, path: str, low: float, high: float, unit: str = "") -> float | None:
        """A number from `low` to `high`."""
        value = self.plain(node, path) if isinstance(node, ScalarNode) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            shown = f"{node.value}" if isinstance(node, ScalarNode) else kind(node)
            self.wrong(node, path, f"is {shown}", f"{low:g} to {high:g}{unit} are allowed")
            return None
        return value

    def count(self, node: Node, path: str, low: int, high: int) -> int | None:
        """A whole number from `low` to `high`."""
        value = self.number(node, path, low, high)
        if value is not None and value != int(value):
            self.wrong(node, path, f"is {value}", "a whole number is allowed")
            return None
        return None if value is None else int(value)

    def truth(self, node: Node, path: str) -> bool | None:
        """True or false."""
        value = self.plain(node, path) if isinstance(node, ScalarNode) else None
        if not isinstance(value, bool):
            self.wrong(node, path, "is no truth value", "true or false is allowed")
            return None
        return value

    def seconds(self, node: Node, path: str, high_s: float) -> float | None:
        """A time: a number of milliseconds, or a number with its unit (ms, s, m, h, d); in seconds."""
        text = node.value.strip() if isinstance(node, ScalarNode) else ""
        value_s = _seconds(text)
        if value_s is None or not 0 <= value_s <= high_s:
            shown = f'"{text}"' if text else kind(node)
            allowed = f'milliseconds, or a number with ms, s, m, h or d; at most {high_s:g} s, such as "500ms"'
            self.wrong(node, path, f"is {shown}", allowed)
            return None
        return value_s

    def each(self, node: Node, path: str, read: Callable[[Node, str], Any]) -> list[Any]:
        """The members that `read` could read."""
        members = [read(member, f"{path}[{index}]") for index, member in enumerate(self.members(node))]
        return [member for member in members if member is not None]


def kind(node: Node) -> str:
    """What the node is, in words."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    if tree.is_null(node):
        return "empty"
    return f'"{node.value}"'


def _seconds(text: str) -> float | None:
    factor = 0.001
    for unit, worth in _DURATIONS:
        if text.endswith(unit):
            text, factor = text.removesuffix(unit), worth
            break
    try:
        value = float(text) * factor
    except ValueError:
        return None
    return value if value == value else None
