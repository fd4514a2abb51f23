"""What `wellspring storage new` writes runs as it is written: its own test passes, in a process of its own."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tools.cli import failures
from tools.cli.main import cli


def runs(*words: str):
    return CliRunner().invoke(cli, ["storage", "new", *words], prog_name="wellspring")


@pytest.mark.parametrize(
    ("name", "more", "kind"), [("drafts", ["--class", "Draft"], "Draft"), ("my_list", [], "MyList")]
)
def test_a_new_feature_runs_as_it_is_written(tmp_path: Path, name: str, more: list[str], kind: str):
    written = runs(name, "--into", str(tmp_path / "feature"), *more)
    assert written.exit_code == 0, written.output
    assert f"class {kind}:" in (tmp_path / "feature" / f"{name}.py").read_text(encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path / "feature"), *(entry for entry in sys.path if entry)])
    command = shlex.join([sys.executable, "-m", "tools.cli.main"])
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WELLSPRING", "PYTEST", "TEST"))}
    environment = {**kept, "PYTHONPATH": paths, "WELLSPRING_COMMAND": command, "WELLSPRING_TRACE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{name}_test.py"],
        cwd=tmp_path / "feature",
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout + done.stderr


def test_nothing_is_overwritten(tmp_path: Path):
    (tmp_path / "drafts_test.py").write_text("mine", encoding="utf-8")
    refused = runs("drafts", "--into", str(tmp_path))
    assert refused.exit_code == failures.CONFLICT and "drafts_test.py" in refused.stderr
    assert (tmp_path / "drafts_test.py").read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "drafts.py").exists()


@pytest.mark.parametrize(
    "words", [("No",), ("class",), ("json",), ("a-b",), ("x" * 64,), ("ok", "--class", "bad"), ("",)]
)
def test_names_that_cannot_be_are_refused(tmp_path: Path, words: tuple[str, ...]):
    assert runs(*words, "--into", str(tmp_path)).exit_code == failures.USAGE
    assert not list(tmp_path.iterdir())
