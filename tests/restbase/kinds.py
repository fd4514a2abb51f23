"""The types of RESTBase's attributes: what a value must be, how it is kept in JSON, how the keys made of it sort.

Source of the types: the specification that the suite comes with (its README, "Supported types").
"""

import base64
import datetime
import json
import struct
import uuid
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from tests.restbase.refusals import Refused

Key = bytes


class Kind(NamedTuple):
    """A type: ``kept`` checks a value and makes it what JSON keeps, ``order`` sorts kept values in a set, ``key`` makes
    bytes that sort as the values do, none of which begins another (None: not allowed in an index)."""

    kept: Callable[[Any], Any]
    order: Callable[[Any], Any]
    key: Callable[[Any], Key] | None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is not a string")
    return value


def _blob(value: Any) -> dict[str, str]:
    if not (isinstance(value, dict) and [*value] == ["$blob"]):
        raise ValueError("is not a blob")
    base64.b64decode(value["$blob"], validate=True)
    return value


def _blob_bytes(value: Any) -> bytes:
    return base64.b64decode(value["$blob"])


def _whole(bits: int | None) -> Callable[[Any], int]:
    def kept(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("is not an integer")
        if bits is not None and not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise ValueError(f"does not fit into {bits} bits")
        return value

    return kept


def _long(value: Any) -> str:
    """As text: JavaScript's numbers hold 53 bits."""
    return str(_whole(64)(int(value)))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("is not a number")
    return float(value)


def _single(value: Any) -> float:
    single: float = struct.unpack(">f", struct.pack(">f", _number(value)))[0]
    return single


def _decimal(value: Any) -> str:
    try:
        return str(Decimal(str(value)))
    except InvalidOperation:
        raise ValueError("is not a decimal number") from None


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is not a boolean")
    return value


def _uuid(version: int | None) -> Callable[[Any], str]:
    def kept(value: Any) -> str:
        read = uuid.UUID(_text(value))
        if version is not None and read.version != version:
            raise ValueError(f"is not a UUID of version {version}")
        return str(read)

    return kept


def _timestamp(value: Any) -> str:
    return _text(value) and _moment(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(value: str) -> datetime.datetime:
    read = datetime.datetime.fromisoformat(value)
    if read.tzinfo is None:
        raise ValueError("has no time zone")
    return read.astimezone(datetime.UTC)


def _sorted_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def text_key(value: str) -> Key:
    """Bytes of a text: no zero within that is not followed by 0xFF, and two zeros at the end."""
    return _delimited(value.encode())


def _delimited(raw: bytes) -> Key:
    return raw.replace(b"\0", b"\0\xff") + b"\0\0"


def _whole_key(value: Any) -> Key:
    """Sign and length, then as many bytes; of a negative number its complement. Up to 126 bytes."""
    number = int(value)
    size = (abs(number).bit_length() + 7) // 8
    if size > 126:
        raise ValueError("has more than 126 bytes, too many for a key")
    if number >= 0:
        return bytes((0x80 + size,)) + number.to_bytes(size, "big")
    return bytes((0x80 - size,)) + (number + (1 << 8 * size)).to_bytes(size, "big")


def _double_key(value: float) -> Key:
    """IEEE 754's bits sort as the numbers do once the sign is turned, and all of a negative one."""
    bits = int(struct.unpack(">Q", struct.pack(">d", value))[0])
    return (bits ^ (0xFFFFFFFFFFFFFFFF if bits >> 63 else 1 << 63)).to_bytes(8, "big")


def _time_uuid_key(value: str) -> Key:
    """Its 60 bits of time before the rest (RFC 9562, 5.1)."""
    read = uuid.UUID(value)
    return read.time.to_bytes(8, "big") + read.bytes[8:]


_KINDS = {
    "string": Kind(_text, str.encode, text_key),
    "blob": Kind(_blob, _blob_bytes, lambda value: _delimited(_blob_bytes(value))),
    "int": Kind(_whole(32), int, _whole_key),
    "varint": Kind(_whole(None), int, _whole_key),
    "long": Kind(_long, int, _whole_key),
    "float": Kind(_single, float, _double_key),
    "double": Kind(_number, float, _double_key),
    "decimal": Kind(_decimal, Decimal, None),
    "boolean": Kind(_truth, bool, lambda value: bytes((value,))),
    "timeuuid": Kind(_uuid(1), _time_uuid_key, _time_uuid_key),
    "uuid": Kind(_uuid(None), str, lambda value: uuid.UUID(value).bytes),
    "timestamp": Kind(_timestamp, _moment, lambda value: _double_key(_moment(value).timestamp())),
    "json": Kind(lambda value: value, _sorted_text, None),
}
NAMES = frozenset(_KINDS) | {f"set<{name}>" for name in _KINDS}


def kept(name: str, kind: str, value: Any) -> Any:
    """The value of the attribute ``name`` as it is kept; None for null and for an empty set. Raises Refused."""
    if value is None:
        return None
    try:
        if not kind.startswith("set<"):
            return _KINDS[kind].kept(value)
        if not isinstance(value, list):
            raise ValueError("is not a list")
        of = _KINDS[kind[4:-1]]
        once = {_sorted_text(one): one for one in map(of.kept, value)}
        return sorted(once.values(), key=of.order) or None
    except ValueError as error:
        raise Refused(500, f"attribute {name!r} of type {kind}: {value!r} {error}") from None


def key(name: str, kind: str, value: Any, *, descending: bool = False) -> Key:
    """The part of a key that an indexed attribute makes. Raises Refused."""
    made = _KINDS[kind].key if kind in _KINDS else None
    value = kept(name, kind, value)
    if made is None or value is None:
        raise Refused(500, f"attribute {name!r} of type {kind}: {value!r} cannot be part of a key")
    try:
        plain = made(value)
    except ValueError as error:
        raise Refused(500, f"attribute {name!r}: {value!r} {error}") from None
    return bytes(255 - byte for byte in plain) if descending else plain


def after(prefix: Key) -> Key:
    """The first key behind all that begin with ``prefix``."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,))
