"""A message as the YAML that would give it: every value in effect, in people's units, secrets hidden."""

from typing import Any

import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from libs.config import fields
from libs.config.units import format_duration, format_size

HIDDEN = "<hidden>"


def to_yaml(message: Message) -> str:
    """The YAML of ``message``; reading it back gives the same message, but for what is hidden."""
    return yaml.safe_dump(_mapping(message), sort_keys=False, allow_unicode=True, width=120)


def _mapping(message: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.has_presence and not message.HasField(field.name):
            continue
        if fields.is_map(field):
            assert field.message_type is not None
            member = field.message_type.fields_by_name["value"]
            shown[field.name] = {key: _value(member, field, value[key]) for key in sorted(value)}
        elif field.is_repeated:
            shown[field.name] = [_value(field, field, one) for one in value]
        else:
            shown[field.name] = _value(field, field, value)
    return shown


def _value(field: FieldDescriptor, ruled: FieldDescriptor, value: Any) -> Any:
    if fields.rule(ruled).secret:
        return HIDDEN if value else value
    if fields.is_duration(field):
        return format_duration(value.ToNanoseconds())
    if fields.is_message(field):
        return _mapping(value)
    if field.enum_type is not None:
        names = {number: name for name, number in fields.enum_names(field.enum_type).items()}
        return names.get(value, "")
    if field.type == FieldDescriptor.TYPE_BYTES:
        return value.decode("utf-8", "replace")
    return format_size(value) if fields.rule(ruled).size else value
