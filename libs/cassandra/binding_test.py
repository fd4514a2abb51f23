"""Values of a batch's statements are the bytes that the driver makes of them."""

import struct

import pytest
from cassandra.cqltypes import (
    BooleanType,
    BytesType,
    ByteType,
    Int32Type,
    LongType,
    MapType,
    ShortType,
    UTF8Type,
    VarcharType,
)
from cassandra.protocol import ColumnMetadata
from cassandra.query import BatchStatement, PreparedStatement

from libs.cassandra.binding import add, encoders

MAP = MapType.apply_parameters((LongType, BytesType))
COLUMNS = {
    "blob": (BytesType, [b"", b"\0\xff", b"v" * 5000, None]),
    "tinyint": (ByteType, [-128, 0, 127, None]),
    "smallint": (ShortType, [-(1 << 15), 1, (1 << 15) - 1, None]),
    "int": (Int32Type, [-(1 << 31), 1, (1 << 31) - 1, None]),
    "bigint": (LongType, [-(1 << 63), 1, (1 << 63) - 1, None]),
    "text": (UTF8Type, ["", "ä", None]),
    "varchar": (VarcharType, ["", "ä", None]),
    "boolean": (BooleanType, [True, False, None]),
    "map": (MAP, [{}, {1: b"a", 2: b""}, None]),
}


def prepared(*kinds):
    columns = [ColumnMetadata("keys", "rows", f"column{at}", kind) for at, kind in enumerate(kinds)]
    return PreparedStatement(columns, b"id", [0], "UPDATE", "keys", 4, None, None)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_value_is_encoded_as_by_the_driver(name):
    kind, values = COLUMNS[name]
    statement = prepared(BytesType, kind)
    for value in values:
        ours, theirs = BatchStatement(), BatchStatement()
        for batch in (ours, theirs):
            batch.add(statement.bind((b"first", value)))
        add(ours, statement, encoders(statement), (b"key", value))
        theirs.add(statement.bind((b"key", value)))
        assert [(kept[0], kept[1], list(kept[2])) for kept in ours._statements_and_parameters] == [
            (kept[0], kept[1], list(kept[2])) for kept in theirs._statements_and_parameters
        ]
        assert ours.routing_key == theirs.routing_key == b"first"


@pytest.mark.parametrize("key", [[0], [1, 2], [2, 0], []])
def test_a_batch_belongs_where_its_first_statement_does(key):
    statement, second = prepared(BytesType, UTF8Type, ShortType), prepared(BytesType)
    statement.routing_key_indexes = key or None
    ours, theirs = BatchStatement(), BatchStatement()
    add(ours, statement, encoders(statement), (b"first", "ä", 7))
    theirs.add(statement.bind((b"first", "ä", 7)))
    assert (ours.routing_key, ours.keyspace) == (theirs.routing_key, theirs.keyspace)
    if key:
        add(ours, second, encoders(second), (b"other",))
        assert ours.routing_key == theirs.routing_key


@pytest.mark.parametrize("values", [(b"key",), (b"key", 1, 2), (b"key", "text"), (b"key", 1 << 31), ("key", 1)])
def test_values_that_do_not_fit_are_refused(values):
    statement, batch = prepared(BytesType, Int32Type), BatchStatement()
    with pytest.raises((ValueError, TypeError, struct.error)):
        add(batch, statement, encoders(statement), values)
    assert not batch._statements_and_parameters
