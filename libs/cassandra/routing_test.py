"""Keys of partitions: as the driver makes them of a statement that names one; and those of statements over several."""

from cassandra.cqltypes import BytesType, Int32Type
from cassandra.protocol import ColumnMetadata
from cassandra.query import PreparedStatement

from libs.cassandra.routing import Routed, routing_key


def _prepared(routed):
    columns = [ColumnMetadata("keys", "rows", "space", Int32Type), ColumnMetadata("keys", "rows", "record", BytesType)]
    indexes = [0, 1] if routed else None
    return PreparedStatement(columns, b"id", indexes, "SELECT", "keys", 4, None, None)


def test_a_key_is_what_the_driver_makes_of_one_partition():
    for number, record in ((5, b"m"), (0, b"\0"), ((1 << 31) - 1, b"long" * 200)):
        wanted = _prepared(True).bind((number, record)).routing_key
        assert routing_key(number.to_bytes(4, "big"), record) == wanted


def test_a_statement_over_several_has_the_key_it_is_given():
    assert _prepared(False).bind((5, b"m")).routing_key is None
    bound = Routed(_prepared(False), b"key").bind((5, b"m"))
    assert bound.routing_key == b"key" and bound.keyspace == "keys"
