"""What a configuration of a cache becomes, and what is refused of it."""

import pytest

from libs.config.config import parse
from libs.config.mistakes import ConfigError
from libs.config.origins import origin_of
from libs.config.redis import redis_options
from libs.rpc.testing.certificates import Authority
from wellspring.config.v1 import backend_pb2, server_pb2, storage_pb2

CACHED = """
backend:
  cached:
    redis: {address: "cache.example:6380"}
    origin: {embedded: {path: /data}}
"""


def test_a_backend_behind_a_cache_is_read_from_its_configuration():
    config = parse(CACHED, storage_pb2.StorageConfig, source="f.yaml")
    cached = config.backend.cached
    assert origin_of(config.backend).embedded.path == "/data"
    assert (cached.max_age.ToSeconds(), cached.max_entry_bytes) == (3600, 64 * 1024)
    options = redis_options(cached.redis)
    assert (options.address, options.timeout_s, options.max_connections) == (("cache.example", 6380), 0.05, 32)
    assert (options.username, options.password, options.tls, options.database) == ("", "", None, 0)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("backend: {cached: {origin: {embedded: {path: a}}}}", "backend.cached.redis: is missing"),
        ("backend: {cached: {redis: {address: a}}}", "backend.cached.origin: is missing"),
        ("backend: {cached: {redis: {}, origin: {embedded: {path: a}}}}", "backend.cached.redis.address: is missing"),
        ("backend: {cached: {redis: {address: a}, origin: {}}}", "backend.cached.origin: kind is missing"),
        (CACHED + "    max_age: 0s", "backend.cached.max_age: is"),
        (CACHED + "    max_entry_bytes: 1GiB", "backend.cached.max_entry_bytes: is"),
    ],
)
def test_what_is_missing_or_out_of_bounds_is_named(text, line):
    with pytest.raises(ConfigError) as error:
        parse(text, storage_pb2.StorageConfig, source="f.yaml")
    assert line in error.value.message


def test_a_cache_of_a_cache_is_refused():
    inner = storage_pb2.CachedStorage(origin=storage_pb2.StorageBackend(embedded=backend_pb2.Embedded(path="a")))
    outer = storage_pb2.CachedStorage(origin=storage_pb2.StorageBackend(cached=inner))
    with pytest.raises(ConfigError, match=r"backend\.cached\.origin: is cached itself; embedded and cassandra"):
        origin_of(storage_pb2.StorageBackend(cached=outer))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis.example", ("redis.example", 6379)),
        ("10.0.0.1:7000", ("10.0.0.1", 7000)),
        ("[::1]:7000", ("::1", 7000)),
        ("unix:/run/redis.sock", "/run/redis.sock"),
    ],
)
def test_addresses(text, address):
    assert redis_options(backend_pb2.Redis(address=text)).address == address


@pytest.mark.parametrize("text", ["host:", ":6379", "host:0", "host:99999", "host:port", "unix:relative"])
def test_an_address_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match=r"backend\.cached\.redis\.address.*allowed"):
        redis_options(backend_pb2.Redis(address=text))


def test_files_are_read_or_named(tmp_path):
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "ca.pem").write_bytes(Authority().pem)
    tls = server_pb2.ClientTls(ca_file=str(tmp_path / "ca.pem"), server_name="cache")
    config = backend_pb2.Redis(address="a", username="u", password_file=str(tmp_path / "password"), tls=tls)
    options = redis_options(config)
    assert options.password == "secret" and "secret" not in repr(options)
    assert options.tls is not None and (options.tls.ca_file, options.tls.server_name) == (tls.ca_file, "cache")
    with pytest.raises(ConfigError, match=r"redis\.password_file: cannot be read"):
        redis_options(backend_pb2.Redis(address="a", password_file=str(tmp_path / "none")))
    (tmp_path / "noise.pem").write_text("no certificate")
    tls.ca_file = str(tmp_path / "noise.pem")
    with pytest.raises(ConfigError, match=r"redis\.tls\.ca_file: cannot be used"):
        redis_options(backend_pb2.Redis(address="a", tls=tls))
