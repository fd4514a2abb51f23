"""What a configuration of a cluster becomes, and what is refused of it."""

import pytest

from libs.config.cassandra import cassandra_options
from libs.config.mistakes import ConfigError
from wellspring.config.v1 import backend_pb2, server_pb2


def test_a_cluster_is_read_from_its_configuration(tmp_path):
    (tmp_path / "password").write_text("secret\n")
    config = backend_pb2.Cassandra(
        contact_points=["10.0.0.1", "db.example:9043"],
        keyspace="wellspring",
        local_datacentre="dc1",
        username="wellspring",
        password_file=str(tmp_path / "password"),
        replication={"dc1": 3},
        max_in_flight=7,
    )
    config.request_timeout.FromMilliseconds(1500)
    options = cassandra_options(config)
    assert options.contact_points == (("10.0.0.1", 9042), ("db.example", 9043))
    assert (options.username, options.password, options.replication) == ("wellspring", "secret", {"dc1": 3})
    assert (options.request_timeout_s, options.max_in_flight, options.tls) == (1.5, 7, None)
    assert "secret" not in repr(options)


@pytest.mark.parametrize("point", ["host:", ":9042", "host:0", "host:99999", "host:port"])
def test_an_address_that_is_none_is_refused(point):
    config = backend_pb2.Cassandra(contact_points=["good", point])
    with pytest.raises(ConfigError, match=r"contact_points\[1\].*allowed"):
        cassandra_options(config)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"password_file: cannot be read"):
        cassandra_options(backend_pb2.Cassandra(password_file=str(tmp_path / "none")))
    (tmp_path / "ca.pem").write_text("no certificate")
    tls = server_pb2.ClientTls(ca_file=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match=r"cassandra\.tls: cannot be used"):
        cassandra_options(backend_pb2.Cassandra(tls=tls))
