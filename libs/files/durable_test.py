"""A file is replaced whole or stays what it was."""

import os
import stat
import subprocess
import sys
import time

import pytest

from libs.files import durable


def test_a_file_is_made_and_replaced_with_its_mode(tmp_path):
    path = tmp_path / "state.json"
    durable.replace(path, b"one")
    assert path.read_bytes() == b"one" and stat.S_IMODE(path.stat().st_mode) == 0o600
    durable.replace(path, b"two", mode=0o644)
    assert path.read_bytes() == b"two" and stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["state.json"]


def test_what_a_crash_left_beside_it_does_no_harm(tmp_path):
    path = tmp_path / "state.json"
    (tmp_path / "state.json.new").write_bytes(b"half")
    durable.replace(path, b"whole")
    assert path.read_bytes() == b"whole" and os.listdir(tmp_path) == ["state.json"]


def test_a_link_that_lies_in_wait_is_not_followed(tmp_path):
    path, other = tmp_path / "state.json", tmp_path / "other"
    other.write_bytes(b"mine")
    (tmp_path / "state.json.new").symlink_to(other)
    durable.replace(path, b"whole")
    assert other.read_bytes() == b"mine" and path.read_bytes() == b"whole"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "state.json"
    durable.replace(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError):
        durable.replace(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["state.json"]


def test_a_writer_that_is_killed_leaves_one_of_the_two(tmp_path):
    path = tmp_path / "state.json"
    size = 100_000
    durable.replace(path, bytes(size))
    code = (
        "import itertools, pathlib, sys\nfrom libs.files import durable\n"
        f"for n in itertools.count(): durable.replace(pathlib.Path(sys.argv[1]), bytes([n % 256]) * {size})"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(5):
        before = path.stat().st_mtime_ns
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment)
        while path.stat().st_mtime_ns == before and writer.poll() is None:
            time.sleep(0.001)
        writer.kill()
        assert writer.wait() == -9
        held = path.read_bytes()
        assert len(held) == size and len(set(held)) == 1
