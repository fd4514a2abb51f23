"""From the tree of a file to a message: every key known, every value in range, every default filled in.

All mistakes are gathered, so that a file is mended in one go.
"""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from libs.config import fields, tree, values
from libs.config.mistakes import Mistake, suggest
from wellspring.config.v1 import rule_pb2


class Builder:
    """Fills messages and remembers what was wrong in ``mistakes``."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []

    def fill(self, message: Any, node: Node, path: str) -> None:
        """Fill ``message`` from the mapping ``node``, which stands at the key ``path``."""
        if not isinstance(node, MappingNode):
            if not tree.is_null(node):
                self._wrong(node, path, f"is {_kind(node)}", f"a mapping is allowed, with the keys {_names(message)}")
                return
            node = MappingNode("tag:yaml.org,2002:map", [], node.start_mark, node.end_mark)
        entries = self._entries(message, node, path)
        for field in message.DESCRIPTOR.fields:
            self._fill_field(message, field, entries.get(field.name), node, _join(path, field.name))
        for choice in fields.choices(message.DESCRIPTOR):
            self._check_choice(choice, entries, node, path)

    def _entries(self, message: Any, node: MappingNode, path: str) -> dict[str, Node]:
        known = message.DESCRIPTOR.fields_by_name
        entries: dict[str, Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, ScalarNode) else ""
            if name not in known:
                self._wrong(key, _join(path, name or "?"), "is not a key here", suggest(name, known))
            elif name in entries:
                self._wrong(key, _join(path, name), "is given twice", "one value is allowed")
            else:
                entries[name] = value
        return entries

    def _check_choice(self, oneof: OneofDescriptor, entries: dict[str, Node], node: MappingNode, path: str) -> None:
        names = [field.name for field in oneof.fields]
        given = [name for name in entries if name in names]
        for name in given[1:]:
            what, allowed = f"stands beside {given[0]}", f"one of {', '.join(names)} is allowed"
            self._wrong(entries[name], _join(path, name), what, allowed)
        if not given and fields.oneof_required(oneof):
            allowed = f"one of these keys is required: {', '.join(names)}"
            self._wrong(node, path, f"{oneof.name} is missing", allowed)

    def _fill_field(self, message: Any, field: FieldDescriptor, node: Node | None, parent: Node, path: str) -> None:
        rule = fields.rule(field)
        if node is None and rule.required and not rule.default:
            self._wrong(parent, path, "is missing", f"{_what(field)} is required")
            return
        if node is None and (fields.is_choice(field) or fields.is_switch(field)):
            return
        if node is None or (rule.default and fields.is_message(field) and not field.is_repeated):
            node = _with_default(field, node, parent)
        if node is None:
            return
        before = len(self.mistakes)
        if fields.is_map(field):
            self._fill_map(message, field, node, path)
        elif field.is_repeated:
            self._fill_list(message, field, node, path)
        elif fields.is_message(field):
            if fields.is_switch(field) and tree.is_null(node):
                return
            below = getattr(message, field.name)
            below.SetInParent()
            self.fill(below, node, path)
            return
        else:
            self._fill_scalar(message, field, node, path)
        if rule.required and len(self.mistakes) == before and not _given(message, field):
            self._wrong(node, path, "is empty", f"{_what(field)} is required")

    def _fill_scalar(self, message: Any, field: FieldDescriptor, node: Node, path: str) -> None:
        value = self._value(field, node, path)
        if value is None:
            return
        if fields.is_duration(field):
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)

    def _fill_list(self, message: Any, field: FieldDescriptor, node: Node, path: str) -> None:
        if not isinstance(node, SequenceNode):
            self._wrong(node, path, f"is {_kind(node)}", f"a list is allowed, its members each {_what(field)}")
            return
        into = getattr(message, field.name)
        for index, member in enumerate(node.value):
            if fields.is_message(field):
                self.fill(into.add(), member, f"{path}[{index}]")
            elif (value := self._value(field, member, f"{path}[{index}]")) is not None:
                into.append(value)

    def _fill_map(self, message: Any, field: FieldDescriptor, node: Node, path: str) -> None:
        if not isinstance(node, MappingNode):
            self._wrong(node, path, f"is {_kind(node)}", "a mapping from names of your own is allowed")
            return
        assert field.message_type is not None
        value_field = field.message_type.fields_by_name["value"]
        into = getattr(message, field.name)
        seen = set()
        for key, member in node.value:
            name = self._value(field.message_type.fields_by_name["key"], key, path)
            if name is None:
                continue
            below = _join(path, str(name))
            if name in seen:
                self._wrong(key, below, "is given twice", "one value is allowed")
                continue
            seen.add(name)
            if fields.is_message(value_field):
                self.fill(into[name], member, below)
            elif (value := self._value(value_field, member, below, fields.rule(field))) is not None:
                into[name] = value

    def _value(self, field: FieldDescriptor, node: Node, path: str, rule: rule_pb2.Rule | None = None) -> Any:
        rule = rule if rule is not None else fields.rule(field)
        if not isinstance(node, ScalarNode) or tree.is_null(node):
            self._wrong(node, path, f"is {_kind(node)}", f"{values.expected(field, rule)} is allowed")
            return None
        try:
            return values.parse(field, node.value, rule)
        except values.Wrong as wrong:
            what = "is not what may be printed" if rule.secret else wrong.what
            self._wrong(node, path, what, wrong.allowed)
            return None

    def _wrong(self, node: Node, path: str, what: str, allowed: str) -> None:
        self.mistakes.append(tree.mistake(node, path, what, allowed))


def _with_default(field: FieldDescriptor, node: Node | None, parent: Node) -> Node | None:
    """The node of the field's default, with what the file says laid over it; None when there is nothing to fill."""
    default = fields.rule(field).default
    if not default:
        if fields.is_message(field) and not field.is_repeated:
            return MappingNode("tag:yaml.org,2002:map", [], parent.start_mark, parent.end_mark)
        return None
    source = f"default of {field.full_name}"
    if not field.is_repeated and not fields.is_message(field):
        return tree.scalar(default, source)
    own = tree.read(default, source)
    if isinstance(node, MappingNode) and isinstance(own, MappingNode):
        return tree.merged({key.value: value for key, value in own.value}, node)
    return own if tree.is_null(node) else node


def _given(message: Message, field: FieldDescriptor) -> bool:
    value: Any = getattr(message, field.name)
    if fields.is_duration(field) and not field.is_repeated:
        return message.HasField(field.name)
    return bool(value)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _names(message: Any) -> str:
    return ", ".join(field.name for field in message.DESCRIPTOR.fields)


def _what(field: FieldDescriptor) -> str:
    return "a mapping" if fields.is_message(field) else values.expected(field)


def _kind(node: Node) -> str:
    if tree.is_null(node):
        return "empty"
    if isinstance(node, ScalarNode):
        return "a single value"
    return "a list" if isinstance(node, SequenceNode) else "a mapping"
