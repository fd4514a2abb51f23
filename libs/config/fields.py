"""What protobuf says about a field, put the way the rest of libs/config asks."""

import functools

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor

from wellspring.config.v1 import rule_pb2

DURATION = "google.protobuf.Duration"

_INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}


@functools.cache
def rule(field: FieldDescriptor) -> rule_pb2.Rule:
    """The rule beside ``field``; an empty one where there is none."""
    options = field.GetOptions()
    found: rule_pb2.Rule = options.Extensions[rule_pb2.rule]
    return found


@functools.cache
def oneof_required(oneof: OneofDescriptor) -> bool:
    """Whether one member of the choice must be given."""
    return bool(oneof.GetOptions().Extensions[rule_pb2.oneof_rule].required)


@functools.cache
def choices(message: Descriptor) -> tuple[OneofDescriptor, ...]:
    """The oneofs of ``message``, without those that stand for an ``optional`` field."""
    return tuple(oneof for oneof in message.oneofs if not any(is_switch(field) for field in oneof.fields))


@functools.cache
def is_switch(field: FieldDescriptor) -> bool:
    """Whether ``field`` is marked ``optional``: absent means off, not default."""
    # The compiler wraps such a field in a oneof of its own, named after it (protobuf,
    # docs/implementing_proto3_presence.md).
    oneof = field.containing_oneof
    return oneof is not None and oneof.name == f"_{field.name}" and len(oneof.fields) == 1


def is_choice(field: FieldDescriptor) -> bool:
    """Whether ``field`` is a member of a oneof."""
    return field.containing_oneof is not None and not is_switch(field)


@functools.cache
def is_map(field: FieldDescriptor) -> bool:
    """Whether ``field`` is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def is_message(field: FieldDescriptor) -> bool:
    """Whether a value of ``field`` is a message with keys of its own (a duration is not)."""
    return field.message_type is not None and field.message_type.full_name != DURATION


def is_duration(field: FieldDescriptor) -> bool:
    """Whether a value of ``field`` is a duration."""
    return field.message_type is not None and field.message_type.full_name == DURATION


def integer_range(field: FieldDescriptor) -> tuple[int, int] | None:
    """The numbers that the type of ``field`` holds; None when it is not an integer."""
    return _INTEGERS.get(field.type)


@functools.cache
def enum_names(enum: EnumDescriptor) -> dict[str, int]:
    """Short names in lower case -> numbers, without the unspecified one."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}
