"""What a configuration of a cluster becomes, and what is refused of it."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from libs.config.cassandra import cassandra_options
from libs.config.mistakes import ConfigError
from libs.rpc.testing.certificates import Authority
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
        cassandra_options(backend_pb2.Cassandra(username="u", password_file=str(tmp_path / "none")))


@pytest.mark.parametrize(("given", "missing"), [("username", "password_file"), ("password_file", "username")])
def test_a_user_without_a_password_and_a_password_without_a_user_are_refused(given, missing):
    config = backend_pb2.Cassandra()
    setattr(config, given, "x")
    with pytest.raises(ConfigError, match=rf"cassandra\.{missing}: is missing.*go together"):
        cassandra_options(config)


def test_of_the_files_of_tls_the_wrong_one_is_named(tmp_path, capfd):
    authority = Authority()
    certificate, key = authority.issue("me").write(tmp_path, "me")
    _, other = authority.issue("other").write(tmp_path, "other")
    ca, noise = tmp_path / "ca.pem", tmp_path / "noise.pem"
    ca.write_bytes(authority.pem)
    noise.write_text("no certificate")
    locked = tmp_path / "locked.key"
    loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    shape = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked.write_bytes(loaded.private_bytes(*shape, serialization.BestAvailableEncryption(b"pass")))

    def options(**files):
        return cassandra_options(backend_pb2.Cassandra(tls=server_pb2.ClientTls(**{"ca_file": str(ca), **files})))

    assert options(certificate_file=certificate, key_file=key, server_name="db").tls_server_name == "db"
    for refused, files in (
        (r"tls\.ca_file: cannot be used", {"ca_file": str(noise)}),
        (r"tls\.ca_file: cannot be used", {"ca_file": str(tmp_path / "none")}),
        (r"tls\.key_file: is missing.*go together", {"certificate_file": certificate}),
        (r"tls\.certificate_file: is missing.*go together", {"key_file": key}),
        (r"tls\.key_file: cannot be used", {"certificate_file": certificate, "key_file": other}),
        (r"tls\.key_file: cannot be used", {"certificate_file": str(noise), "key_file": key}),
        (r"tls\.key_file: cannot be used.*no password", {"certificate_file": certificate, "key_file": str(locked)}),
    ):
        with pytest.raises(ConfigError, match=refused):
            options(**files)
    assert capfd.readouterr().err == ""  # nobody is asked for a password
