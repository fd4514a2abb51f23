"""Values from outside of the file, by the path of their key: from the environment, and from the command line.

``WELLSPRING_STORAGE__SERVER__WORKERS=2`` is ``server.workers``: after the service's prefix, two underscores before each
part of the path, in capitals. A single value is taken as it is; a list or a mapping is written as YAML (``[a, b]``,
``{path: /data}``), and a list of one may be written as its member. The command line wins over the environment, the
environment over the file.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from yaml.nodes import MappingNode, Node, ScalarNode

from libs.config import fields, tree
from libs.config.mistakes import ConfigError, Mistake, suggest


def from_environment(root: MappingNode, message: Message, prefix: str, environ: Mapping[str, str]) -> list[Mistake]:
    """Lay every variable that begins with ``prefix`` and two underscores over ``root``. Returns the mistakes."""
    mistakes = []
    for name in sorted(environ):
        if name.startswith(prefix + "__"):
            path = name.removeprefix(prefix + "__").lower().split("__")
            mistakes += _lay(root, message, path, environ[name], f"environment variable {name}")
    return mistakes


def from_arguments(root: MappingNode, message: Message, values: Mapping[str, str]) -> list[Mistake]:
    """Lay every (path with dots, text) of ``values`` over ``root``. Returns the mistakes."""
    mistakes = []
    for name, text in values.items():
        mistakes += _lay(root, message, name.split("."), text, f"--set {name}")
    return mistakes


def _lay(root: MappingNode, message: Message, path: list[str], text: str, source: str) -> list[Mistake]:
    field: FieldDescriptor | None = None
    below: Any = message.DESCRIPTOR
    for depth, name in enumerate(path):
        if below is None:
            what = f"{'.'.join(path[:depth])} has no keys of its own"
            return [Mistake(source, 0, 0, ".".join(path), what, "give its value as a whole")]
        if name not in below.fields_by_name:
            return [
                Mistake(
                    source, 0, 0, ".".join(path), f'"{name}" is not a key here', suggest(name, below.fields_by_name)
                )
            ]
        field = below.fields_by_name[name]
        below = field.message_type if fields.is_message(field) and not field.is_repeated else None
    assert field is not None
    try:
        tree.put(root, path, _node(field, text, source))
    except ConfigError as error:
        return error.mistakes
    return []


def _node(field: FieldDescriptor, text: str, source: str) -> Node:
    if not field.is_repeated and not fields.is_message(field):
        return tree.scalar(text, source)
    node = tree.read(text, source)
    if field.is_repeated and not fields.is_map(field) and isinstance(node, ScalarNode):
        return tree.single(tree.scalar(text, source))
    return node
