"""A child is started, paused, killed; it dies with its parent; a missing repository skips or fails with its reason."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tools.dev.servers import locate, ports
from tools.dev.servers.process import Process, ServerError, short_directory

PYTHON = sys.executable


def python(code: str, directory: Path) -> Process:
    return Process("child", [PYTHON, "-c", code], directory)


def state(pid: int) -> str:
    """The state letter of /proc/PID/stat (S sleeping, T stopped, …); 'gone' when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def test_output_and_end_are_reported(tmp_path):
    child = python("print('no disk left'); raise SystemExit(3)", tmp_path)
    child.start()
    with pytest.raises(ServerError) as error:
        child.wait_ready(lambda: False)
    assert "child ended before it was ready (exit code 3)" in str(error.value)
    assert "no disk left" in str(error.value)


def test_a_server_that_never_gets_ready_is_named(tmp_path):
    child = python("import time; time.sleep(600)", tmp_path)
    child.start()
    try:
        with pytest.raises(ServerError, match="child was not ready within 0 s"):
            child.wait_ready(lambda: False, timeout_s=0.1)
        assert child.running
    finally:
        child.kill()
    assert not child.running
    child.kill()  # Twice does no harm.
    with pytest.raises(ServerError, match="is not running"):
        child.pause()


def test_pause_and_kill_reach_grandchildren(tmp_path):
    code = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"
    child = python(code, tmp_path)
    child.start()
    child.wait_ready(lambda: bool(child.logs().strip()))
    grandchild = int(child.logs())
    child.pause()
    child.wait_ready(lambda: state(grandchild) == "T")
    child.resume()
    child.wait_ready(lambda: state(grandchild) != "T")
    child.kill()
    assert state(grandchild) in ("gone", "Z")


@pytest.mark.parametrize("end", [Process.kill, Process.stop])
def test_a_port_is_free_again_when_the_end_returns_also_if_a_grandchild_held_it(tmp_path, end):
    # A process gives its memory back before it closes its sockets: with much memory it lives on for a while.
    port = ports.free_port()
    holder = f"""
import socket, time
memory = bytearray(b"x") * (300 << 20)
s = socket.create_server(("127.0.0.1", {port}))
print("up", flush=True)
time.sleep(600)
"""
    child = python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holder!r}])", tmp_path)
    for _ in range(2):
        child.log_path.write_text("")
        child.start()
        child.wait_ready(lambda: "up" in child.logs())
        end(child)
        socket.create_server(("127.0.0.1", port)).close()


def wait_gone(pid: int) -> None:
    end = threading.Event()
    for _ in range(600):
        if state(pid) in ("gone", "Z"):
            return
        end.wait(0.05)
    raise AssertionError(f"process {pid} still lives: {state(pid)}")


def test_stop_gives_the_program_its_say(tmp_path):
    code = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print("bye"), sys.exit(0)))
print("up", flush=True)
signal.pause()
"""
    child = python(code, tmp_path)
    child.start()
    child.wait_ready(lambda: "up" in child.logs())
    child.pause()
    child.stop()
    assert child.logs().split() == ["up", "bye"]


def test_a_child_outlives_the_thread_that_asked_for_it_but_not_the_process(tmp_path):
    code = """
import pathlib, sys, threading, time
from tools.dev.servers.process import Process
child = Process("sleeper", ["sleep", "600"], pathlib.Path(sys.argv[1]))
thread = threading.Thread(target=child.start)
thread.start()
thread.join()
time.sleep(0.2)
print(child.pid if child.running else "dead", flush=True)
time.sleep(600)
"""
    path = os.pathsep.join(p for p in sys.path if p)
    parent = subprocess.Popen(
        [PYTHON, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    said = parent.stdout.readline().strip()
    assert said.isdigit(), said
    assert state(int(said)) != "gone"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_gone(int(said))


def test_ports_are_free_distinct_and_below_the_ephemeral_range():
    given = [ports.free_port("127.0.0.1", "127.0.1.1") for _ in range(200)]
    assert len(set(given)) == 200
    assert all(15000 <= p < 32768 for p in given)
    with socket.create_server(("127.0.0.1", given[0])):
        assert ports.accepts("127.0.0.1", given[0])
    assert not ports.accepts("127.0.0.1", given[0])


def test_short_directories_leave_room_for_a_socket():
    directory = short_directory("cassandra")
    try:
        assert len(str(directory / "some-server.sock")) < 60
    finally:
        directory.rmdir()


@pytest.fixture
def runfiles(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNFILES_DIR", str(tmp_path))
    for name in ("CI", "WELLSPRING_REQUIRE_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    for name, file, text in (("gone", "UNAVAILABLE", "no network\n"), ("server_policy", "required.txt", "0\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    return tmp_path


def test_a_server_that_cannot_be_had_skips_with_the_reason(runfiles):
    with pytest.raises(locate.ServerUnavailable, match="@gone is not available on this machine: no network"):
        locate.repository("gone")


def test_where_servers_are_required_it_fails(runfiles, monkeypatch):
    (runfiles / "server_policy/required.txt").write_text("1\n")
    with pytest.raises(locate.ServerRequired, match="no network"):
        locate.repository("gone")
    (runfiles / "server_policy/required.txt").write_text("0\n")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(locate.ServerRequired, match="no network"):
        locate.repository("gone")


def test_an_undeclared_server_says_what_to_do(runfiles):
    with pytest.raises(LookupError, match="bazelw fetch @never//:files"):
        locate.repository("never")
