"""A protobuf message as a dictionary that may be shown: no secret, no body, no more than a screenful.

What is a secret is known by type (a message named ``Secret``) and by the option ``debug_redact`` of a field. protobuf's
own ``repr`` shows everything: no message is logged but through ``redact``.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

REDACTED: Final = "[redacted]"
HIDDEN_TYPE: Final = "Secret"
"""The name of the message that holds a secret, in whatever package."""
_LONGEST_TEXT = 256
_MOST_ITEMS = 16
_DEEPEST = 16


def redact(message: Message) -> dict[str, Any]:
    """The set fields of ``message`` by name.

    Secrets are ``[redacted]``, bytes are their length, long texts and lists are cut and say so. Never raises for a
    message that protobuf accepted, however deep it nests.
    """
    return _message(message, 0)


def _message(message: Message, depth: int) -> dict[str, Any]:
    if message.DESCRIPTOR.name == HIDDEN_TYPE:
        return {REDACTED: REDACTED}
    if depth >= _DEEPEST:
        return {"...": "nested deeper"}
    secret = _secret_fields(message.DESCRIPTOR)
    shown: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.number in secret:
            shown[field.name] = REDACTED
        elif _is_map(field):
            shown[field.name] = _map(field, value, depth)
        elif field.is_repeated:
            shown[field.name] = _list(value, depth)
        else:
            shown[field.name] = _value(value, depth)
    return shown


@lru_cache(maxsize=1024)
def _secret_fields(descriptor: Any) -> frozenset[int]:
    """The numbers of the fields that may not be shown: marked, or of a secret type (as values of a map, too)."""
    return frozenset(field.number for field in descriptor.fields if _is_secret_field(field))


def _is_secret_field(field: FieldDescriptor) -> bool:
    if field.GetOptions().debug_redact:
        return True
    kind = field.message_type
    if kind is None:
        return False
    if kind.GetOptions().map_entry:
        return any(_is_secret_field(part) for part in kind.fields)
    return kind.name == HIDDEN_TYPE


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _map(field: FieldDescriptor, value: Any, depth: int) -> dict[str, Any]:
    names = list(value)[:_MOST_ITEMS]
    shown = {_text(str(name)): _value(value[name], depth) for name in names}
    if len(value) > len(names):
        shown["..."] = f"{len(value) - len(names)} more"
    return shown


def _list(values: Any, depth: int) -> list[Any]:
    kept: Iterable[Any] = values[:_MOST_ITEMS]
    shown = [_value(value, depth) for value in kept]
    if len(values) > len(shown):
        shown.append(f"... {len(values) - len(shown)} more")
    return shown


def _value(value: Any, depth: int) -> Any:
    if isinstance(value, Message):
        return _message(value, depth + 1)
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, str):
        return _text(value)
    return value


def _text(value: str) -> str:
    return value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}... ({len(value)} characters)"
