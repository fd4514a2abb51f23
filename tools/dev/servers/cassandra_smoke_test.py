"""A real Cassandra node: a round trip with the real driver; acknowledged writes outlive kill -9; a pause; bad input."""

import os
from pathlib import Path

import pytest
from cassandra import OperationTimedOut
from cassandra.query import SimpleStatement

from tools.dev.servers.cassandra import PROTOCOL_VERSION, Cassandra

COUNT = 300
PATIENCE_S = 180


@pytest.fixture(scope="module")
def cassandra():
    with Cassandra() as cassandra:
        print(f"started in {cassandra.start_seconds:.1f} s")
        session = cassandra.connect(request_timeout_s=PATIENCE_S)
        session.execute("CREATE KEYSPACE k WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}")
        session.execute("CREATE TABLE k.t (id int PRIMARY KEY, v text)")
        session.cluster.shutdown()
        yield cassandra


@pytest.mark.skipif("TEST_SRCDIR" not in os.environ, reason="Bazel makes the archive")
def test_classes_come_out_of_the_archive(cassandra):
    assert "/cassandra_jars.jsa\n" in Path(f"/proc/{cassandra.nodes[0].pid}/maps").read_text()


def test_round_trip_and_kill_9(cassandra):
    session = cassandra.connect(request_timeout_s=PATIENCE_S)
    assert session.cluster.protocol_version == PROTOCOL_VERSION
    assert session.execute("SELECT data_center FROM system.local").one().data_center == "dc1"
    insert = session.prepare("INSERT INTO k.t (id, v) VALUES (?, ?)")
    for i in range(COUNT):
        session.execute(insert, (i, str(i)))
    applied = session.execute("INSERT INTO k.t (id, v) VALUES (0, 'again') IF NOT EXISTS").one().applied
    assert not applied
    cassandra.kill()  # At once: nothing has time to be written later.
    session.cluster.shutdown()
    cassandra.restart()
    session = cassandra.connect(request_timeout_s=PATIENCE_S)
    rows = {row.id: row.v for row in session.execute("SELECT id, v FROM k.t")}
    session.cluster.shutdown()
    assert rows == {i: str(i) for i in range(COUNT)}


def test_a_paused_node_hangs_and_resumes(cassandra):
    session = cassandra.connect(request_timeout_s=PATIENCE_S)
    session.execute("INSERT INTO k.t (id, v) VALUES (-1, 'before')")
    cassandra.pause()
    with pytest.raises(OperationTimedOut):
        session.execute(SimpleStatement("SELECT v FROM k.t WHERE id = -1"), timeout=1)
    cassandra.resume()
    assert session.execute("SELECT v FROM k.t WHERE id = -1").one().v == "before"
    session.cluster.shutdown()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="1 to 250"):
        Cassandra(datacenters={"dc1": 0})
    with pytest.raises(ValueError, match="batch, group, periodic"):
        Cassandra(commit_log="never")
