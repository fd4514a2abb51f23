"""The script at the root: which Bazel it takes, and that everything is passed through."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bazelw(tmp_path):
    """A copy of the tree's bazelw with the pinned version 7.7.1, and a PATH of its own."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("bazelw", ".bazelversion"):
        shutil.copy(ROOT / name, tree / name)
    left = shutil.ignore_patterns("testdata", "__pycache__")
    shutil.copytree(ROOT / "tools/bazel", tree / "tools/bazel", ignore=left)
    path = tmp_path / "bin"
    path.mkdir()

    def run(*args, **env):
        environment = {
            "PATH": f"{path}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "WELLSPRING_PYTHON": sys.executable,
            **env,
        }
        environment.setdefault("BAZELW_DEBIAN_MIRROR", f"file://{tmp_path}/nowhere")
        return subprocess.run(
            [str(tree / "bazelw"), *args], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
        )

    def program(name, version):
        file = path / name
        file.write_text(
            f'#!/bin/sh\nif [ "$1" = --version ]; then echo "bazel {version}"; exit; fi\n'
            f'echo "{name}:"; for a in "$@"; do echo "[$a]"; done; exit 7\n'
        )
        file.chmod(0o755)

    run.program = program
    return run


@pytest.mark.parametrize("version", ["7.7.1", "7.8.0", "7.10.2", "7.7.1-debian"])
def test_a_suitable_bazel_on_path_is_taken_with_all_arguments(bazelw, version):
    bazelw.program("bazel", version)
    done = bazelw("--batch", "build", "//a b", "--", "-x", "")
    assert done.returncode == 7
    assert done.stdout.splitlines() == ["bazel:", "[--batch]", "[build]", "[//a b]", "[--]", "[-x]", "[]"]


@pytest.mark.parametrize("version", ["7.7.0", "7.6.9", "6.9.9", "8.0.0", "4.2.3- (@non-git)", "nonsense"])
def test_an_unsuitable_one_is_passed_over_for_bazelisk(bazelw, version):
    bazelw.program("bazel", version)
    bazelw.program("bazelisk", "7.7.1")
    assert bazelw("version").stdout.splitlines()[0] == "bazelisk:"


def test_without_any_the_message_names_commands(bazelw):
    bazelw.program("bazel", "6.0.0")
    done = bazelw("version")
    assert done.returncode == 1
    assert "BAZELW_DEBIAN_MIRROR=" in done.stderr and "bazelisk" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_choice_that_cannot_be_kept_is_said(bazelw):
    done = bazelw("version", BAZELW="bazelisk")
    assert (done.returncode, "BAZELW=bazelisk" in done.stderr) == (1, True)
    done = bazelw("version", BAZELW="bazzel")
    assert done.returncode == 1 and "allowed are path, bazelisk, debian" in done.stderr


def test_a_missing_python_is_said(bazelw):
    bazelw.program("bazel", "7.7.1")
    done = bazelw("version", WELLSPRING_PYTHON="/nowhere/python")
    assert done.returncode == 1 and "apt-get install python3" in done.stderr


def test_only_the_test_command_gets_the_report(bazelw):
    bazelw.program("bazel", "7.7.1")
    done = bazelw("test", "//...")
    assert done.returncode == 7
    assert done.stdout.splitlines()[-1] == "0 passed, 1 failed"
    assert "passed" not in bazelw("run", "//x", "--", "test").stdout


def test_the_tree_stays_clean(bazelw, tmp_path):
    bazelw.program("bazel", "7.7.1")
    bazelw("test")
    assert not [p for p in (tmp_path / "tree").rglob("__pycache__") if os.listdir(p)]
