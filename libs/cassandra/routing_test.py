"""Keys of partitions: as the driver makes them of a statement that names one; and those of statements over several.
Partitions with the same replicas have one name for them."""

from types import SimpleNamespace

from cassandra.cqltypes import BytesType, Int32Type
from cassandra.protocol import ColumnMetadata
from cassandra.query import PreparedStatement

from libs.cassandra.routing import Replicas, Routed, routing_key


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


class Ring:
    """The driver's knowledge of a cluster: replicas by key."""

    def __init__(self, **replicas):
        self.hosts = {key.encode(): [_host(*one) for one in named] for key, named in replicas.items()}

    def get_replicas(self, keyspace, key):
        assert keyspace == "keys"
        return self.hosts.get(key, [])


def _host(address, datacentre):
    return SimpleNamespace(datacenter=datacentre, endpoint=SimpleNamespace(address=address, port=9042))


def test_those_of_the_own_data_centre_make_the_name():
    here, other, away = ("10.0.0.1", "dc1"), ("10.0.0.2", "dc1"), ("10.0.1.1", "dc2")
    ring = Ring(a=[here, other, away], b=[away, other, here], c=[here, away], d=[away])
    replicas = Replicas(ring, "keys", "dc1")
    assert replicas.of(b"a") == replicas.of(b"b") and replicas.of(b"a") is replicas.of(b"a")
    assert len({replicas.of(key) for key in (b"a", b"c", b"d")}) == 3
    assert replicas.of(b"unknown") is None


def test_a_ring_that_changed_is_looked_at_anew():
    ring = Ring(a=[("10.0.0.1", "dc1")], b=[("10.0.0.1", "dc1")])
    replicas = Replicas(ring, "keys", "dc1")
    before = replicas.of(b"a")
    ring.hosts[b"a"] = [_host("10.0.0.2", "dc1")]
    assert replicas.of(b"a") != before == replicas.of(b"b")
