"""Bundles are the same byte for byte, carry their stamp, and run where only Python is."""

import json
import os
import subprocess
import sys
import tarfile

import pytest

from tools.bundle import make_bundle
from tools.lint import tree

SAMPLE = f"{tree.MAIN_REPOSITORY}/tools/bundle/sample"
STATUS = {
    "STABLE_VERSION": "v1.2.3",
    "STABLE_GIT_COMMIT": "abc",
    "STABLE_GIT_TREE": "clean",
    "STABLE_COMMIT_EPOCH": "1700000000",
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    to = tmp_path_factory.mktemp("bundle")
    with tarfile.open(tree.runfile(f"{SAMPLE}/first.tar.gz")) as tar:
        tar.extractall(to)
    return to / "hello-0.0.0-unstamped"


def test_two_builds_are_the_same_bytes():
    first, second = (tree.runfile(f"{SAMPLE}/{name}.tar.gz").read_bytes() for name in ("first", "second"))
    assert first == second
    assert len(first) > 100_000


def run(program, *args, **env):
    environment = {"PATH": "/usr/bin:/bin", "WELLSPRING_PYTHON": sys.executable, **env}
    return subprocess.run([program, *args], capture_output=True, text=True, env=environment, cwd="/", check=False)


def test_the_unpacked_bundle_runs_and_so_do_its_children(unpacked):
    done = run(unpacked / "bin/hello", "you")
    assert done.stdout == "hello you 3 wellspring.bench.v1\nhello child 3 wellspring.bench.v1\n", done.stderr


def test_it_runs_through_a_link(unpacked, tmp_path):
    (tmp_path / "hi").symlink_to(unpacked / "bin/hello")
    assert run(tmp_path / "hi", "you").returncode == 0


def test_another_python_is_refused_in_words(unpacked, tmp_path):
    for name in ("python3", "python3.11"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    for name in ("readlink", "dirname", "sh"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = run(unpacked / "bin/hello", "you", PATH=str(tmp_path), WELLSPRING_PYTHON="")
    assert done.returncode == 1
    assert "needs Python" in done.stderr and "WELLSPRING_PYTHON" in done.stderr


def test_nothing_compiled_and_nothing_of_the_machine_is_in_it():
    with tarfile.open(tree.runfile(f"{SAMPLE}/first.tar.gz")) as tar:
        names = [name.split("/", 1)[1] for name in tar.getnames()]
    assert not [n for n in names if "__pycache__" in n or n.endswith(".pyc")]
    assert {n.split("/")[0] for n in names} == {"bin", "app", "site", "VERSION", "bundle.json"}


def make(tmp_path, name="a.tar.gz", files=(), status=STATUS):
    out = tmp_path / name
    make_bundle.make(out, "prog", "main.py", files, ["app"], "3.11", status)
    return out


def test_a_stamp_is_carried(tmp_path):
    with tarfile.open(make(tmp_path)) as tar:
        members = tar.getmembers()
        about = json.load(tar.extractfile("prog-v1.2.3/bundle.json"))
    assert about == {"commit": "abc", "name": "prog", "python": "3.11", "tree": "clean", "version": "v1.2.3"}
    assert {m.mtime for m in members} == {1_700_000_000}
    assert {(m.uid, m.gid, m.uname) for m in members} == {(0, 0, "root")}
    assert [m.name for m in members] == sorted(m.name for m in members)


def test_times_modes_and_order_of_the_inputs_do_not_show(tmp_path):
    made = []
    for i, order in enumerate([1, -1]):
        folder = tmp_path / str(i)
        (folder / "d/__pycache__").mkdir(parents=True)
        (folder / "d/x.py").write_text("x = 1\n")
        (folder / "d/__pycache__/x.pyc").write_bytes(os.urandom(8))
        (folder / "main.py").write_text("print(1)\n")
        (folder / "main.py").chmod(0o755 if i else 0o600)
        os.utime(folder / "main.py", (i, i))
        files = [("../pypi/d/site", str(folder / "d")), ("main.py", str(folder / "main.py"))][::order]
        made.append(make(tmp_path, f"{i}.tar.gz", files).read_bytes())
    assert made[0] == made[1]


def test_two_files_for_one_place_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    files = [("../pypi/one/site/m.py", str(tmp_path / "a")), ("../pypi/two/site/m.py", str(tmp_path / "b"))]
    with pytest.raises(make_bundle.BundleError, match=r"site/m\.py would come from"):
        make(tmp_path, files=files)
