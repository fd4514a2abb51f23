"""Services that cannot start: each says what is wrong, where, and what is allowed, ends with status 78, and leaves
everything as it was."""

import json
import os
import re
import socket

import pytest
import yaml

from tests.system.refusing import CONFIG_STATUS, command, environment, files, refusal
from tests.system.served import Served
from tools.dev.servers.process import Process

LISTEN = {"server": {"listen": ["127.0.0.1:0"]}}
STORES = ("storage", "session", "propagation")


def store_config(service, folder, **more):
    config = LISTEN | {"backend": {"embedded": {"path": str(folder / "data")}}}
    if service == "session":
        config |= {"keyring_file": str(folder / "keyring.json"), "create_keyring": True, "realms": [{"name": "web"}]}
    return config | more


def starts(service, config, folder):
    """Whether a process of this configuration becomes ready; it is ended then."""
    file, ready = folder / "good.yaml", folder / f"{service}.ready"
    server = LISTEN["server"] | {"ready_file": str(ready)}
    file.write_text(yaml.safe_dump(config | {"server": server}), encoding="utf-8")
    process = Process(service, command(service, file), folder, environment())
    process.start()
    try:
        process.wait_ready(ready.exists)
        return True
    finally:
        process.kill()


def served(service, folder):
    """A process that runs in folder/data."""
    more = {key: value for key, value in store_config(service, folder).items() if key not in ("server", "backend")}
    return Served(folder, service, "grpcio", more)


# Configuration


MISTAKES = {
    "storage": (
        """\
serverr: {}
server:
  listen: ["somewhere:80"]
  workers: many
  max_message_bytes: 3GiB
  drain_wait: 5
backend:
  embedded: {path: DATA, cach_bytes: 5}
namespace_defaults: {ttl_jitter: 0.9}
datacentre: "No Such!"
""",
        [
            (1, "serverr", 'did you mean "server"'),
            (3, "server.listen[0]", "host:port"),
            (4, "server.workers", "from 1 to 256"),
            (5, "server.max_message_bytes", "from 64KiB to 256MiB"),
            (6, "server.drain_wait", "500ms"),
            (8, "backend.embedded.cach_bytes", "cache_bytes"),
            (9, "namespace_defaults.ttl_jitter", "from 0 to 0.5"),
            (10, "datacentre", "1 to 32 of a-z"),
        ],
    ),
    "session": (
        """\
backend: {embedded: {path: DATA}}
keyring: DATA
realms:
  - name: WEB
    kind: magic
    timeouts: [{level: 4, idle: 1h, absolute: 1d}]
""",
        [
            (1, "keyring_file", "required"),
            (2, "keyring", "keyring_file"),
            (4, "realms[0].name", "a-z"),
            (5, "realms[0].kind", "minted, opaque"),
            (6, "realms[0].timeouts[0].level", "from 1 to 3"),
        ],
    ),
    "propagation": (
        """\
backend: {embedded: {path: DATA}, sharded: {embedded: {path: x}, kafka: {bootstrap_servers: [x]}}}
lanes:
  - {name: fast, weight: 0}
retry: {max_attempts: 1e9, jitter: .nan}
caches: [{urls: ["ftp://cache"]}]
""",
        [
            (1, "backend.sharded", "beside embedded"),
            (3, "lanes[0].weight", "from 1 to 1000"),
            (4, "retry.max_attempts", "from 1 to 100"),
            (4, "retry.jitter", "from 0 to 1"),
            (5, "caches[0].name", "required"),
            (5, "caches[0].urls[0]", "http://host:port"),
        ],
    ),
    "gateway": (
        "routes: [{path_prefix: page, namespace: html}]\nhttp: {listen: [80]}\nstorage: {adresses: [x]}\n",
        [
            (1, "routes[0].path_prefix", "begins with /"),
            (2, "http.listen[0]", "host:port"),
            (3, "storage.adresses", "addresses"),
        ],
    ),
    "executor": (
        "name: 'a b'\nlease_items: 0\nheartbeat: -1s\npython_path: /here\n",
        [
            (1, "name", "letters, digits"),
            (2, "lease_items", "from 1 to 100000"),
            (3, "heartbeat", "500ms"),
            (4, "python_path", "list"),
        ],
    ),
}


@pytest.mark.parametrize("service", MISTAKES)
def test_every_mistake_of_a_configuration_is_named_with_its_line(service, tmp_path):
    text, expected = MISTAKES[service]
    ended = refusal(service, text.replace("DATA", str(tmp_path / "data")), tmp_path)
    assert ended.status == CONFIG_STATUS
    first, *told = ended.words.splitlines()
    assert first == f"{len(expected)} mistakes in the configuration:", ended.words
    for line, path, allowed in expected:
        mine = [one for one in told if one.startswith(f"{tmp_path}/bad.yaml:{line}:") and f" {path}:" in one]
        assert mine, f"line {line}, {path}: {ended.words}"
        assert allowed in mine[0]
    assert set(files(tmp_path)) == {"bad.yaml"}


@pytest.mark.parametrize(
    "text",
    [
        "server: [",
        "\tserver: {}",
        b"server: \xff\xfe",
        b"\x00\x01\x02",
        "- a\n- list",
        "just words",
        "backend: &a {embedded: *a}",
        "backend: {embedded: {path: x}}\nbackend: {embedded: {path: y}}",
        "!!python/object/apply:os.system ['touch harmed']",
        "[" * 5000,
    ],
)
def test_what_is_no_configuration_at_all_is_refused_in_one_line(text, tmp_path):
    ended = refusal("storage", text, tmp_path)
    assert ended.status == CONFIG_STATUS
    assert "bad.yaml" in ended.words
    assert len(ended.words) < 2000
    assert set(files(tmp_path)) == {"bad.yaml"}


def test_overrides_are_held_to_the_same_rules(tmp_path):
    config = store_config("storage", tmp_path)
    ended = refusal("storage", config, tmp_path, "--set", "server.drain_wait=soon", "--set", "no.such=1")
    assert ended.status == CONFIG_STATUS
    assert "--set server.drain_wait" in ended.words and "--set no.such" in ended.words
    assert set(files(tmp_path)) == {"bad.yaml"}


def test_a_configuration_file_that_is_not_there_is_named(tmp_path):
    ended = refusal("storage", "", tmp_path, "--config", str(tmp_path / "none.yaml"))
    assert ended.status in (CONFIG_STATUS, 2)
    assert "none.yaml" in ended.words


def test_what_a_configuration_names_must_be_there(tmp_path):
    keyless = store_config("session", tmp_path) | {"create_keyring": False}
    ended = refusal("session", keyless, tmp_path)
    assert ended.status == CONFIG_STATUS
    assert str(tmp_path / "keyring.json") in ended.words and "create_keyring" in ended.words
    viewless = store_config("propagation", tmp_path, views_file=str(tmp_path / "views.yaml"))
    viewless["backend"] = {"embedded": {"path": str(tmp_path / "engine")}}
    ended = refusal("propagation", viewless, tmp_path)
    assert ended.status == CONFIG_STATUS
    assert str(tmp_path / "views.yaml") in ended.words
    # Nothing half done: with what was missing, both start in the same place.
    (tmp_path / "views.yaml").write_text("views: [{name: a, wrong: 1}]", encoding="utf-8")
    ended = refusal("propagation", viewless, tmp_path)
    assert ended.status == CONFIG_STATUS
    assert "views.yaml:1" in ended.words and "wrong" in ended.words
    (tmp_path / "views.yaml").write_bytes(b"views: \xff")
    assert "not UTF-8" in refusal("propagation", viewless, tmp_path).words
    (tmp_path / "views.yaml").write_text("views: []", encoding="utf-8")
    for service, config in ("session", store_config("session", tmp_path)), ("propagation", viewless):
        assert starts(service, config, tmp_path)


# Ports


@pytest.mark.parametrize("where", ["grpc", "metrics", "http"])
def test_a_port_in_use_is_named_and_nothing_is_written(where, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        if where == "grpc":
            ended = refusal("storage", store_config("storage", tmp_path, server={"listen": [taken]}), tmp_path)
        elif where == "metrics":
            config = store_config("storage", tmp_path, telemetry={"metrics_listen": taken})
            ended = refusal("storage", config, tmp_path)
        else:
            routes = [{"path_prefix": "/", "namespace": "html"}]
            ended = refusal("gateway", LISTEN | {"http": {"listen": [taken]}, "routes": routes}, tmp_path)
    assert ended.status == CONFIG_STATUS
    assert taken in ended.words
    assert set(files(tmp_path)) == {"bad.yaml"}


# Data directories


@pytest.mark.parametrize("service", STORES)
def test_a_data_directory_in_use_is_refused_and_its_holder_undisturbed(service, tmp_path):
    first = served(service, tmp_path / "first")
    first.start()
    try:
        ended = refusal(service, store_config(service, tmp_path / "first"), tmp_path)
        assert ended.status == CONFIG_STATUS
        assert f"in use by process {first.process.pid}" in ended.words
        assert str(tmp_path / "first" / "data") in ended.words
        assert first.process.running
    finally:
        first.kill()


@pytest.mark.parametrize("service", STORES)
def test_a_data_directory_of_another_service_or_version_is_refused_and_left_as_it_is(service, tmp_path):
    mine = served(service, tmp_path / "mine")
    mine.start()
    mine.drain()
    data = tmp_path / "mine" / "data"
    stranger = STORES[STORES.index(service) - 1]
    before = kept(data)
    config = store_config(stranger, tmp_path) | {"backend": {"embedded": {"path": str(data)}}}
    ended = refusal(stranger, config, tmp_path)
    assert ended.status == CONFIG_STATUS
    assert str(data) in ended.words and ("not empty" if service == "session" else repr(stranger)) in ended.words
    assert kept(data) == before

    format_file = data / "sessions" / "FORMAT" if service == "session" else data / "FORMAT"
    described = json.loads(format_file.read_text())
    newer = json.dumps(described | {"version": described["version"] + 1})
    format_file.write_text(newer)
    ended = refusal(service, store_config(service, tmp_path / "mine"), tmp_path)
    assert ended.status == CONFIG_STATUS
    assert f"holds data in version {described['version'] + 1} (" in ended.words
    assert re.search(rf"this release reads version (\d+ to )?{described['version']} \(", ended.words)
    assert format_file.read_text() == newer

    for damaged in ("", "{", "[]", '{"magic": "other"}', "\x00" * 100):
        format_file.write_text(damaged)
        ended = refusal(service, store_config(service, tmp_path / "mine"), tmp_path)
        assert ended.status == CONFIG_STATUS
        assert "damaged" in ended.words

    format_file.write_text(json.dumps(described))
    mine.start()
    mine.drain()


def kept(data):
    """A data directory's files but for the line that names who locks it."""
    return {name: held for name, held in files(data).items() if name != "LOCK.pid"}


@pytest.mark.parametrize("service", STORES)
def test_a_directory_with_other_peoples_files_is_refused_and_left_as_it_is(service, tmp_path):
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "notes.txt").write_text("mine")
    (data / "CURRENT").write_text("mine too")
    before = files(data)
    ended = refusal(service, store_config(service, tmp_path), tmp_path)
    assert ended.status == CONFIG_STATUS
    assert str(data) in ended.words and "not empty" in ended.words
    assert files(data) == before


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "data").write_text("mine")
    ended = refusal("storage", store_config("storage", tmp_path), tmp_path)
    assert ended.status == CONFIG_STATUS
    assert f"{tmp_path}/data" in ended.words and "is a file" in ended.words
    assert (tmp_path / "data").read_text() == "mine"


@pytest.mark.parametrize("there", [True, False], ids=["there", "to be made"])
def test_a_directory_that_cannot_be_written_is_refused_with_what_to_do(there, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    data = locked if there else locked / "data"
    # Who may write everywhere (root) gives that up first.
    before = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.access(locked, os.W_OK) else []
    config = LISTEN | {"backend": {"embedded": {"path": str(data)}}}
    ended = refusal("storage", config, tmp_path, before=before)
    assert ended.status == CONFIG_STATUS
    assert str(data) in ended.words and "owner" in ended.words and "mode" in ended.words
    assert files(locked) == {}
