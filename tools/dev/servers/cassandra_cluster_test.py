"""Two data centres on loopback: each sees the other, and goes on alone when the other is killed."""

import pytest
from cassandra import ConsistencyLevel
from cassandra.query import SimpleStatement

from tools.dev.servers.cassandra import Cassandra

PATIENCE_S = 180


@pytest.fixture(scope="module")
def cassandra():
    with Cassandra(datacenters={"dc1": 1, "dc2": 1}) as cassandra:
        print(f"started in {cassandra.start_seconds:.1f} s")
        yield cassandra


def statement(text, level):
    return SimpleStatement(text, consistency_level=level)


def test_data_centres_share_writes_and_survive_each_other(cassandra):
    near, far = cassandra.in_datacenter("dc1")[0], cassandra.in_datacenter("dc2")[0]
    assert (near.host, far.host) == ("127.0.0.1", "127.0.1.1")
    here = cassandra.connect(near, PATIENCE_S)
    here.execute("CREATE KEYSPACE k WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1, 'dc2': 1}")
    here.execute("CREATE TABLE k.t (id int PRIMARY KEY, v text)")
    here.execute(statement("INSERT INTO k.t (id, v) VALUES (1, 'both')", ConsistencyLevel.EACH_QUORUM))
    there = cassandra.connect(far, PATIENCE_S)
    query = statement("SELECT v FROM k.t WHERE id = 1", ConsistencyLevel.LOCAL_QUORUM)
    assert there.execute("SELECT data_center FROM system.local").one().data_center == "dc2"
    assert there.execute(query).one().v == "both"
    there.cluster.shutdown()

    far.kill()
    here.execute(statement("INSERT INTO k.t (id, v) VALUES (2, 'one')", ConsistencyLevel.LOCAL_QUORUM))
    far.restart()
    there = cassandra.connect(far, PATIENCE_S)
    assert there.execute(query).one().v == "both"
    there.cluster.shutdown()
    here.cluster.shutdown()


def test_an_unknown_data_centre_is_named(cassandra):
    with pytest.raises(KeyError, match="'dc3'; there are"):
        cassandra.in_datacenter("dc3")
