"""`wellspring up` as a process: started, asked, killed, interrupted, refused."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools.cli import failures
from tools.cli.fixture import Shell
from tools.platform import ports

PATIENCE_S = 400


class Up:
    """`wellspring up` with what it prints."""

    def __init__(self, data: Path, *words: str):
        self.data = data
        base = ports.free_base()
        self.address = {"http": f"127.0.0.1:{base + 79}"}
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
        command = [sys.executable, "-m", "tools.cli.main", "up", "--data", str(data), "--port-base", str(base), *words]
        self.output = data.parent / f"{data.name}.out"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": paths}
            )

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def until(self, words: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not re.search(words, self.text()):
            assert self.process.poll() is None and time.monotonic() < end, self.text()
            time.sleep(0.05)

    def pids(self) -> dict[str, int]:
        return {file.parent.name: json.loads(file.read_text())["pid"] for file in self.data.glob("logs/*/ready.json")}


@contextmanager
def up(data: Path, *words: str):
    started = Up(data, *words)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.process.wait()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_gone(pids) -> None:
    end = time.monotonic() + PATIENCE_S
    while any(map(alive, pids)):
        assert time.monotonic() < end, "a service outlived the platform"
        time.sleep(0.05)


def test_one_life_of_a_platform(tmp_path):
    """Up; a second one is refused; a killed service comes back; Ctrl-C drains; the data is there the next time."""
    data = tmp_path / "data"
    with up(data) as first:
        first.until("Ctrl-C drains")
        shell = Shell(data)
        shell.ok("storage", "namespaces", "create", "notes")
        shell.ok("storage", "put", "notes", "kept", "over a restart")

        refused = shell.fails(failures.CONFIGURATION, "up", "--data", str(data), "--port-base", "0")
        assert f"in use by the platform of process {first.process.pid}" in refused.stderr

        before = first.pids()
        os.kill(before["storage"], signal.SIGKILL)
        first.until("storage +died")
        first.until("(?s)storage +died.*storage +ready")
        assert first.pids()["storage"] != before["storage"]
        assert shell.ok("storage", "get", "notes", "kept").stdout == "over a restart"

        pids = list(first.pids().values())
        assert len(pids) == 6
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(PATIENCE_S) == 0, first.text()
        wait_gone(pids)
        order = re.findall(r"^ {9}(\w+) +stopped$", first.text(), re.MULTILINE)
        assert order == ["auditor", "executor", "gateway", "propagation", "session", "storage"]
    assert "error" in shell.fails(failures.UNAVAILABLE, "storage", "get", "notes", "kept", "--timeout", "1").stderr
    with up(data, "--json") as second:
        second.until('"ready": true')
        assert shell.ok("storage", "get", "notes", "kept").stdout == "over a restart"
        pids = list(second.pids().values())
        second.process.kill()
        second.process.wait()
        wait_gone(pids)


def test_an_interruption_of_the_start_leaves_nothing(tmp_path):
    with up(tmp_path / "data") as started:
        started.until("storage +serving")
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(PATIENCE_S) == failures.INTERRUPTED, started.text()
        wait_gone(started.pids().values())


def test_a_port_in_use_is_named_and_nothing_starts(tmp_path):
    base = ports.free_base()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base + 2))
        taken.listen()
        words = ("up", "--data", str(tmp_path / "data"), "--port-base", str(base))
        refused = Shell(tmp_path).fails(failures.CONFIGURATION, *words)
    assert f"port {base + 2}, meant for propagation" in refused.stderr and "--port-base" in refused.stderr
    assert not list((tmp_path / "data").glob("logs/*/server.log"))


def test_directories_that_are_none_of_ours(tmp_path):
    shell = Shell(tmp_path)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("x")
    (tmp_path / "later").mkdir()
    later = {"magic": "wellspring-platform", "format": 99, "ports": {}, "pid": 1}
    (tmp_path / "later" / "platform.json").write_text(json.dumps(later))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "platform.json").write_bytes(b"\xff{")
    for name, words in (("foreign", "letter.txt"), ("later", "format 99"), ("damaged", "damaged")):
        told = shell.fails(failures.CONFIGURATION, "up", "--data", str(tmp_path / name), "--port-base", "0").stderr
        assert words in told and "--data" in told
    shell.fails(failures.USAGE, "up", "--data", str(tmp_path / "file"), "--port-base", "0")
    assert sorted(path.name for path in (tmp_path / "foreign").iterdir()) == ["letter.txt"]


def test_a_service_whose_data_is_of_another_version_says_so(tmp_path):
    data = tmp_path / "data"
    (data / "storage").mkdir(parents=True)
    (data / "platform.json").write_text(
        json.dumps({"magic": "wellspring-platform", "format": 1, "ports": {}, "pid": 1})
    )
    form = {"magic": "wellspring-data", "layout": 1, "schema": "storage", "version": 999}
    (data / "storage" / "FORMAT").write_text(json.dumps(form))
    refused = Shell(data).fails(failures.CONFIGURATION, "up", "--data", str(data), "--port-base", "0")
    assert "storage" in refused.stderr and "999" in refused.stderr and "Traceback" not in refused.stderr
    assert not [pid for pid in pids_of(data) if alive(pid)]


def pids_of(data: Path) -> list[int]:
    return [json.loads(file.read_text())["pid"] for file in data.glob("logs/*/ready.json")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("routes: 3", "routes"),
        ("rooutes: []", "allowed are views"),
        ("routes: [{path_prefix: pages, namespace: x}]", "begins with /"),
        ("executors: 99", "1..16"),
        ("views: missing.yaml", "missing.yaml"),
        ("services: {databse: {}}", "is no service"),
        ("a: [", "is not YAML"),
        ("", "holds no keys"),
        ("services: {storage: {no_such_key: 1}}", "no_such_key"),
    ],
)
def test_a_site_file_with_a_mistake(tmp_path, text, words):
    site = tmp_path / "site.yaml"
    site.write_text(text)
    words_given = ("up", "--data", str(tmp_path / "data"), "--port-base", "0", "--site", str(site))
    refused = Shell(tmp_path).fails(failures.CONFIGURATION, *words_given)
    assert words in refused.stderr and "Traceback" not in refused.stderr


def test_every_command_has_help_with_an_example():
    shell = Shell(Path("/nonexistent"))

    def walk(*words: str) -> None:
        shown = shell.ok(*words, "--help").stdout
        names = re.findall(
            r"^  ([a-z-]+)(?:  |$)", shown.partition("Commands:")[2].partition("Exit status:")[0], re.MULTILINE
        )
        for name in names:
            walk(*words, name)
        assert names or "wellspring " + " ".join(words) in shown.partition("Options:")[0], words

    walk()
