"""The machine's Go is taken when it is new enough; a failing build says what failed."""

import shutil
from pathlib import Path

import pytest

from tools.go import fetch


def test_versions_are_compared_as_numbers():
    assert fetch.numbers("go1.26.8") == (1, 26, 8)
    assert fetch.numbers("go1.9") < fetch.numbers("go1.24")
    assert fetch.required((fetch.HERE / "go.mod").read_text()) >= (1, 24)
    with pytest.raises(fetch.GoError, match="no 'go' line"):
        fetch.required("module x\n")


@pytest.mark.parametrize(("version", "taken"), [("go1.24.1", True), ("go1.23.9", False), ("go1.100", True)])
def test_the_machines_go_is_taken_when_it_is_new_enough(tmp_path, monkeypatch, version, taken):
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho {version}\n")
    go.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(go))
    assert fetch.machine_go((1, 24)) == (go if taken else None)


def test_without_go_there_is_none(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert fetch.machine_go((1, 24)) is None


def test_a_failing_build_is_quoted(tmp_path):
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho 'go.sum: checksum mismatch' >&2\nexit 1\n")
    go.chmod(0o755)
    with pytest.raises(fetch.GoError, match=r"(?s)tool could not be built from example/pkg.*checksum mismatch"):
        fetch.build(go, tmp_path, "tool", "example/pkg", Path(tmp_path))
