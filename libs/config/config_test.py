"""Every mistake in a configuration is named by its place, with what is allowed; what is right comes out complete."""

import random

import pytest
from google.protobuf.duration_pb2 import Duration

from libs.clock.virtual import VirtualClock
from libs.config import fields, values, wiring
from libs.config.command import from_command_line
from libs.config.config import ConfigError, load, parse, to_yaml
from libs.config.units import format_duration, format_size, parse_duration, parse_size
from wellspring.config.v1 import (
    executor_pb2,
    gateway_pb2,
    propagation_pb2,
    rule_pb2,
    server_pb2,
    session_pb2,
    storage_pb2,
)

SMALLEST = {
    storage_pb2.StorageConfig: "backend: {embedded: {path: /data}}",
    session_pb2.SessionConfig: "backend: {embedded: {path: /data}}\nkeyring_file: /keys",
    propagation_pb2.PropagationConfig: "backend: {embedded: {path: /data}}",
    executor_pb2.ExecutorConfig: "",
    gateway_pb2.GatewayConfig: "routes: [{path_prefix: /wiki/, namespace: pages}]",
}


def mistakes(text, message_type=storage_pb2.StorageConfig, **arguments):
    with pytest.raises(ConfigError) as caught:
        parse(text, message_type, source="f.yaml", **arguments)
    assert caught.value.message.count("\n") == len(caught.value.mistakes)
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize(("message_type", "text"), SMALLEST.items())
def test_the_smallest_file_is_completed_and_reads_back_the_same(message_type, text):
    message = parse(text, message_type, source="f.yaml")
    again = parse(to_yaml(message), message_type, source="printed")
    assert again == message


@pytest.mark.parametrize("message_type", SMALLEST)
def test_every_rule_agrees_with_itself(message_type):
    """Each default, least and greatest value in the protos is one that its own field accepts."""
    seen, todo, rules = set(), [message_type.DESCRIPTOR], 0
    while todo:
        message = todo.pop()
        if message.full_name in seen or message.file.package != "wellspring.config.v1":
            continue
        seen.add(message.full_name)
        for field in message.fields:
            if field.message_type is not None:
                todo.append(field.message_type)
                todo += [below.message_type for below in field.message_type.fields if below.message_type is not None]
            rule = fields.rule(field)
            rules += rule != rule_pb2.Rule()
            assert bool(rule.pattern) == bool(rule.pattern_means), field.full_name
            if not (fields.is_message(field) or field.is_repeated or message.GetOptions().map_entry):
                for text in filter(None, (rule.default, rule.min, rule.max)):
                    values.parse(field, text)
                numeric = fields.is_duration(field) or fields.integer_range(field)
                assert not numeric or (rule.min and rule.max), f"{field.full_name} has no limits"
    assert rules > 20


def test_defaults_and_given_values():
    text = """
server:
  listen: [127.0.0.1:0, "unix:/tmp/x"]
  engine: native
  overload_retry: 1.5s
  max_message_bytes: 1 MiB
  tls: {certificate_file: a, key_file: b}
backend: {embedded: {path: /data, open_files: -1}}
auth:
  rules:
    - {identity: "spiffe://example.org/*", methods: ["**"]}
"""
    config = parse(text, storage_pb2.StorageConfig, source="f.yaml")
    options = wiring.server_options("storage", config.server)
    assert options.listen == ("127.0.0.1:0", "unix:/tmp/x")
    assert (options.engine, options.workers, options.overload_retry_s) == ("native", 1, 1.5)
    assert (options.max_message_bytes, options.drain_wait_s, options.reflection) == (1 << 20, 0.5, True)
    assert options.tls.certificate_file == "a" and options.tls.client_ca_file is None
    assert wiring.auth_options(config.auth).rules == {"spiffe://example.org/*": ["**"]}
    assert wiring.telemetry_options(config.telemetry).log.level == "INFO"
    assert wiring.embedded_settings(config.backend.embedded).open_files == -1
    without = parse(SMALLEST[storage_pb2.StorageConfig], storage_pb2.StorageConfig, source="f.yaml")
    assert list(without.server.listen) == ["127.0.0.1:8001"]
    assert not without.server.HasField("tls")


def test_a_default_of_a_message_is_overridden_key_by_key():
    config = parse("engine: {timeout: 9s}", executor_pb2.ExecutorConfig, source="f.yaml")
    assert list(config.engine.addresses) == ["127.0.0.1:8003"]
    assert config.engine.timeout == Duration(seconds=9)


def test_all_mistakes_are_listed_by_place():
    text = """server:
  wokers: 3
  engine: nativ
  drain_wait: 5
  max_message_bytes: 1KiB
  workers: many
  reflection: yes
  listen: []
backend:
  embedded: {path: ""}
  cassandra: {contact_points: [a], keyspace: k, local_datacentre: d, replication: {dc1: 99}}
telemetry: 7
namespace_defaults: [1]
page_tokens: {lifetime: 1s, lifetime: 2d}
"""
    found = mistakes(text)
    for part in [
        'f.yaml:2:3: server.wokers: is not a key here; did you mean "workers"? allowed: listen, engine',
        'f.yaml:3:11: server.engine: is "nativ"; did you mean "native"? allowed: grpcio, native',
        'f.yaml:4:15: server.drain_wait: is "5"; a duration with its unit is allowed',
        "f.yaml:5:22: server.max_message_bytes: is 1KiB; a size from 64KiB to 256MiB is allowed",
        'f.yaml:6:12: server.workers: is "many"; a whole number from 1 to 256 is allowed',
        'f.yaml:7:15: server.reflection: is "yes"; true or false is allowed',
        "f.yaml:8:11: server.listen: is empty; host:port with an IP address",
        "f.yaml:10:20: backend.embedded.path: is empty; a text is required",
        "f.yaml:11:14: backend.cassandra: stands beside embedded; one of embedded, cassandra, cached is allowed",
        "f.yaml:11:89: backend.cassandra.replication.dc1: is 99; a whole number from 1 to 9 is allowed",
        "f.yaml:12:12: telemetry: is a single value; a mapping is allowed, with the keys metrics_listen, log, trace",
        "f.yaml:13:21: namespace_defaults: is a list; a mapping is allowed",
        "f.yaml:14:29: page_tokens.lifetime: is given twice; one value is allowed",
        "f.yaml:14:25: page_tokens.lifetime: is 1s; a duration from 1m to 30d is allowed",
    ]:
        assert any(line.startswith(part) for line in found), (part, found)
    assert len(found) == 14


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "f.yaml:1:1: backend: kind is missing; one of these keys is required: embedded, cassandra, cached"),
        ("backend: {}", "f.yaml:1:10: backend: kind is missing"),
        ("backend: [", "f.yaml:1:11: is not YAML"),
        ("a: b: c", "f.yaml:1:5: is not YAML: mapping values are not allowed here"),
        ("x: &a 1\ny: *a", "f.yaml:2:4: is an alias; write the value out"),
        ("[" * 60, "f.yaml:1:51: is nested too deeply; at most 50 levels"),
        ("--- {}\n--- {}", "f.yaml:2:1: is not YAML"),
        ("just text", "f.yaml:1:1: is a single value; a mapping is allowed, with the keys server, auth"),
        (b"server:\n  listen: \xff", "f.yaml:2:1: is not UTF-8"),
        ("a: \x07", "f.yaml: is not YAML; control characters are not allowed"),
        ("a" * (1 << 21), "f.yaml: has 2097152 bytes; at most 1048576 are allowed"),
        ("? [a]\n: b\n", "f.yaml:1:3: ?: is not a key here"),
        ("backend: {embedded: {path: [a]}}", "f.yaml:1:28: backend.embedded.path: is a list; a text is allowed"),
        ("backend: {embedded: {path: }}", "f.yaml:1:27: backend.embedded.path: is empty; a text is allowed"),
        ("backend: {embedded: {path: a, open_files: 1e3}}", 'f.yaml:1:43: backend.embedded.open_files: is "1e3"'),
        ("backend: {embedded: {path: a, open_files: 99999999999}}", "f.yaml:1:43: backend.embedded.open_files: is 999"),
    ],
)
def test_what_is_not_a_configuration_at_all(text, line):
    found = mistakes(text)
    assert any(mistake.startswith(line) for mistake in found), found


def test_noise_never_escapes_as_another_error():
    rng = random.Random(3)
    pieces = ["server", ":", " ", "\n", "  ", "- ", "[", "]", "{", "}", "&a", "*a", "!!python/name:os", '"', "'", "#"]
    pieces += ["workers", "1", "true", "~", "\t", "|", ">", "%", "@", "é", "\0", "backend", "<<", "?", ",", "5s", "---"]
    for _ in range(3_000):
        text = "".join(rng.choices(pieces, k=rng.randrange(1, 20)))
        try:
            parse(text, storage_pb2.StorageConfig, source="f.yaml")
        except ConfigError as error:
            assert error.mistakes, text


def test_the_environment_is_laid_over_the_file_and_the_command_line_over_both():
    environ = {
        "WELLSPRING_STORAGE__SERVER__WORKERS": "2",
        "WELLSPRING_STORAGE__SERVER__LISTEN": "127.0.0.1:9",
        "WELLSPRING_STORAGE__SERVER__DRAIN_WAIT": "3s",
        "WELLSPRING_STORAGE__BACKEND": "{embedded: {path: /env}}",
        "WELLSPRING_STORAGE__AUTH__OPEN_METHODS": "[a/b, c/d]",
        "WELLSPRING_STORAGE__NAMESPACE_DEFAULTS__MAX_BYTES": "1GiB",
        "WELLSPRING_SESSION__SERVER__WORKERS": "77",
        "WELLSPRING_STORAGEX": "not ours",
    }
    config = parse(
        "server: {workers: 9, drain_wait: 1s, drain_grace: 2s}\nbackend: {cassandra: {}}",
        storage_pb2.StorageConfig,
        source="f.yaml",
        env_prefix="WELLSPRING_STORAGE",
        environ=environ,
        overrides={"server.drain_wait": "4s"},
    )
    assert config.server.workers == 2
    assert list(config.server.listen) == ["127.0.0.1:9"]
    assert config.server.drain_wait.seconds == 4 and config.server.drain_grace.seconds == 2
    assert config.backend.embedded.path == "/env"
    assert list(config.auth.open_methods) == ["a/b", "c/d"]
    assert config.namespace_defaults.max_bytes == 1 << 30


def test_a_mistake_in_the_environment_names_its_variable():
    environ = {
        "W__SERVER__WORKERS": "0",
        "W__SERVER__WOKERS": "2",
        "W__SERVER__WORKERS__MORE": "2",
        "W__AUTH__RULES": "[",
        "W__": "x",
    }
    found = mistakes(
        SMALLEST[storage_pb2.StorageConfig], env_prefix="W", environ=environ, overrides={"datacentre": "No!"}
    )
    for part in [
        "environment variable W__SERVER__WORKERS: server.workers: is 0; a whole number from 1 to 256 is allowed",
        'environment variable W__SERVER__WOKERS: server.wokers: "wokers" is not a key here; did you mean "workers"?',
        "environment variable W__SERVER__WORKERS__MORE: server.workers.more: server.workers has no keys of its own",
        "environment variable W__AUTH__RULES:1:2: is not YAML",
        'environment variable W__: "" is not a key here',
        '--set datacentre: datacentre: is "No!"; 1 to 32 of a-z',
    ]:
        assert any(line.startswith(part) for line in found), (part, found)


def test_files_that_cannot_be_read(tmp_path):
    for path, what in [(tmp_path / "absent", "No such file"), (tmp_path, "Is a directory")]:
        with pytest.raises(ConfigError, match=what):
            load(path, storage_pb2.StorageConfig, environ={})


def test_the_command_line(tmp_path, capsys):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("backend: {embedded: {path: /data}}")
    bad.write_text("backend: {embeded: {path: /data}}")

    def run(*argv):
        with pytest.raises(SystemExit) as caught:
            from_command_line("storage", storage_pb2.StorageConfig, argv, environ={})
        return (caught.value.code, *capsys.readouterr())

    assert run("--config", str(good), "--check-config") == (0, f"{good} is good\n", "")
    status, out, _ = run("--config", str(good), "--print-config", "--set", "server.workers=3")
    assert status == 0 and "workers: 3\n" in out and "path: /data\n" in out
    status, out, err = run("--config", str(bad), "--check-config")
    assert (status, out) == (
        78,
        "",
    ) and f'{bad}:1:11: backend.embeded: is not a key here; did you mean "embedded"?' in err
    assert run("--set", "nonsense")[0] == 2
    config = from_command_line("storage", storage_pb2.StorageConfig, ["--config", str(good)], environ={})
    assert config.backend.embedded.path == "/data"


def test_secrets_are_not_printed(monkeypatch):
    """No field of the configuration is a secret itself (they lie in files), so one is declared to be one."""
    real = fields.rule
    monkeypatch.setattr(
        fields, "rule", lambda field: rule_pb2.Rule(secret=True, min="1") if field.name == "workers" else real(field)
    )
    text = "{listen: ['127.0.0.1:1'], workers: 424242}"
    message = parse(text, server_pb2.Server, source="f.yaml")
    assert message.workers == 424242
    assert "424242" not in to_yaml(message) and "workers: <hidden>" in to_yaml(message)
    assert "-424242" not in str(mistakes(text.replace("424242", "-424242"), server_pb2.Server))


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0s", 0),
        ("1ns", 1),
        ("1.5s", 1_500_000_000),
        ("2h30m", 9_000 * 10**9),
        ("7d", 604_800 * 10**9),
        ("1d1ns", 86400 * 10**9 + 1),
    ],
)
def test_durations(text, ns):
    assert parse_duration(text) == ns
    assert parse_duration(format_duration(ns)) == ns


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-1s", "1.5", "1s2", "1x", "0.1ns", "99999999d", "1S", "٣s"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="allowed"):
        parse_duration(text)


def test_durations_and_sizes_read_back():
    rng = random.Random(1)
    for _ in range(2_000):
        number = rng.getrandbits(rng.randrange(1, 60))
        assert parse_duration(format_duration(number)) == number
        assert parse_size(str(format_size(number))) == number


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("4_096", 4096), ("64MiB", 64 << 20), ("1.5 GB", 1_500_000_000), ("1kB", 1000)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "1 MIB", "1.5", "1.0000001KiB", "1 KiB ", "0x10"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="allowed"):
        parse_size(text)


def test_page_token_keys_come_from_a_file_or_from_the_service(tmp_path):
    file = tmp_path / "keys"
    clock = VirtualClock()
    file.write_text("11" * 32 + "\n" + "22" * 32 + "\n")
    config = parse(f"{{keys_file: {file}}}", type(storage_pb2.StorageConfig().page_tokens), source="f.yaml")
    from_file = wiring.page_tokens(config, clock, lambda: b"")
    config.keys_file = ""
    own = wiring.page_tokens(config, clock, lambda: b"\x22" * 32)
    assert from_file.open(own.issue(b"c", method="m", identity=[]), method="m", identity=[]) == b"c"
    for text in ["", "zz" * 32, "11" * 31]:
        file.write_text(text)
        config.keys_file = str(file)
        with pytest.raises(ConfigError, match="64 hexadecimal digits"):
            wiring.page_tokens(config, clock, lambda: b"")
