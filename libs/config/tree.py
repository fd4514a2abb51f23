"""YAML as a tree that knows its lines: read with bounds, without aliases, and changed by overrides."""

from collections.abc import Mapping

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from libs.config.mistakes import ConfigError, Mistake

MAX_BYTES = 1 << 20
_MAX_DEPTH = 50


def mistake(node: Node, path: str, what: str, allowed: str = "") -> Mistake:
    """The mistake at ``node``."""
    mark = node.start_mark
    return _at(mark, path, what, allowed) if mark is not None else Mistake("configuration", 0, 0, path, what, allowed)


def read(text: str | bytes, source: str) -> Node:
    """The tree of the YAML document ``text``; an empty mapping for an empty document. Raises ConfigError."""
    if len(text) > MAX_BYTES:
        raise ConfigError([Mistake(source, 0, 0, "", f"has {len(text)} bytes", f"at most {MAX_BYTES} are allowed")])
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1 if isinstance(text, bytes) else 0
        raise ConfigError([Mistake(source, line, 1, "", "is not UTF-8", "a configuration is UTF-8 text")]) from None
    try:
        _check_events(decoded, source)
        loader = yaml.SafeLoader(decoded)
        loader.name = source
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = f"is not YAML: {error.problem or error.context}"
        raise ConfigError([_at(mark, "", what, "") if mark else Mistake(source, 0, 0, "", what, "")]) from None
    except yaml.YAMLError:
        raise ConfigError([Mistake(source, 0, 0, "", "is not YAML", "control characters are not allowed")]) from None
    return node if node is not None else empty(source)


def empty(source: str) -> MappingNode:
    """A mapping without keys, at the beginning of ``source``."""
    mark = yaml.Mark(source, 0, 0, 0, None, 0)
    return MappingNode("tag:yaml.org,2002:map", [], mark, mark)


def is_null(node: Node | None) -> bool:
    """Whether nothing is there: no node, or YAML's null."""
    return node is None or isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def scalar(text: str, source: str) -> ScalarNode:
    """A text given outside of a file."""
    mark = yaml.Mark(source, 0, 0, -1, None, 0)
    return ScalarNode("tag:yaml.org,2002:str", text, mark, mark)


def single(node: Node) -> SequenceNode:
    """``node`` as the only member of a list."""
    return SequenceNode("tag:yaml.org,2002:seq", [node], node.start_mark, node.end_mark)


def put(root: MappingNode, path: list[str], value: Node) -> None:
    """Set the key at ``path`` below ``root`` to ``value``, in place of what is there."""
    node = root
    for name in path[:-1]:
        below = get(node, name)
        if not isinstance(below, MappingNode):
            below = MappingNode("tag:yaml.org,2002:map", [], value.start_mark, value.end_mark)
            _set(node, name, below)
        node = below
    _set(node, path[-1], value)


def get(node: MappingNode, name: str) -> Node | None:
    """The value of the key ``name``."""
    return next((value for key, value in node.value if isinstance(key, ScalarNode) and key.value == name), None)


def merged(below: Mapping[str, Node], given: MappingNode) -> MappingNode:
    """``given`` with the keys of ``below`` that it does not have itself."""
    named = {key.value for key, _ in given.value if isinstance(key, ScalarNode)}
    added = [(scalar(name, ""), value) for name, value in below.items() if name not in named]
    return MappingNode(given.tag, given.value + added, given.start_mark, given.end_mark)


def _set(node: MappingNode, name: str, value: Node) -> None:
    node.value = [(k, v) for k, v in node.value if not (isinstance(k, ScalarNode) and k.value == name)]
    key = ScalarNode("tag:yaml.org,2002:str", name, value.start_mark, value.end_mark)
    node.value.append((key, value))


def _at(mark: yaml.Mark, path: str, what: str, allowed: str) -> Mistake:
    return Mistake(
        mark.name or "configuration", mark.line + 1 if mark.column >= 0 else 0, mark.column + 1, path, what, allowed
    )


def _check_events(text: str, source: str) -> None:
    """No aliases (a few lines of them make gigabytes) and no depth that a recursion could not follow."""
    depth = 0
    loader = yaml.SafeLoader(text)
    loader.name = source
    while loader.check_event():
        event: yaml.Event = loader.get_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError([_named(event, source, "is an alias", "write the value out; aliases are not allowed")])
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise ConfigError(
                    [_named(event, source, "is nested too deeply", f"at most {_MAX_DEPTH} levels are allowed")]
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _named(event: yaml.Event, source: str, what: str, allowed: str) -> Mistake:
    mark = event.start_mark
    return Mistake(source, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0, "", what, allowed)
