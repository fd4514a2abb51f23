"""Values of a batch's statements as the protocol has them, in a fifth of the time that the driver takes: it makes an
object for each statement and each of its columns, where a batch of hundreds of rows needs their bytes and no more.

What is known of the types here is what our tables have most of; every other is left to the driver's own.
"""

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from cassandra.cqltypes import BytesType, ByteType, Int32Type, LongType, ShortType, UTF8Type, VarcharType

from libs.cassandra.routing import routing_key

Encode = Callable[[Any], bytes]

_PACKED: Final[dict[Any, Encode]] = {
    ByteType: struct.Struct(">b").pack,
    ShortType: struct.Struct(">h").pack,
    Int32Type: struct.Struct(">i").pack,
    LongType: struct.Struct(">q").pack,
    UTF8Type: str.encode,
    VarcharType: str.encode,  # what nodes call text
}


def encoders(prepared: Any) -> tuple[Encode, ...]:
    """How the values of a prepared statement are encoded, one after the other."""
    return tuple(_encoder(column.type, prepared.protocol_version) for column in prepared.column_metadata)


def add(batch: Any, prepared: Any, encode: Sequence[Encode], values: Sequence[Any]) -> None:
    """Adds a statement to a driver's batch; the first one tells where the batch belongs. Raises ValueError when values
    are missing, or too many, and what the type of a value raises."""
    encoded = [None if value is None else one(value) for one, value in zip(encode, values, strict=True)]
    if not batch._statements_and_parameters and prepared.routing_key_indexes:
        columns = [encoded[at] or b"" for at in prepared.routing_key_indexes]
        batch.keyspace = prepared.column_metadata[0].keyspace_name
        batch.routing_key = columns[0] if len(columns) == 1 else routing_key(*columns)
    batch._statements_and_parameters.append((True, prepared.query_id, encoded))


def _encoder(kind: Any, protocol_version: int) -> Encode:
    if kind is BytesType:
        return bytes
    found = _PACKED.get(kind)
    if found is not None:
        return found
    return functools.partial(_by_driver, kind, protocol_version)


def _by_driver(kind: Any, protocol_version: int, value: Any) -> bytes:
    encoded: bytes = kind.serialize(value, protocol_version)
    return encoded
