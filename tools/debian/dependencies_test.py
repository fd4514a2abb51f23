"""What packages depend on comes from the machine's lists, and from the signed index where there are none."""

import sys

import pytest

from tools.debian import archive, dependencies

MANY = {f"p{n:05}": {"Package": f"p{n:05}", "Depends": "libc6 (>= 2.34)"} for n in range(10_000)}
ELSEWHERE = {
    "b": {"Package": "b", "Version": "1"},
    "a": {"Package": "a", "Description": "first", "Depends": "b | c", "Pre-Depends": "d"},
}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the program; answers its status and what it wrote."""
    monkeypatch.setattr(archive, "mirrors", lambda: ["x/"])
    monkeypatch.setattr(archive, "index", lambda bases, suite, architecture, folder: ELSEWHERE)
    out = tmp_path / "packages.txt"
    monkeypatch.setattr(sys, "argv", ["dependencies", "--suite", "bookworm", "--out", str(out)])

    def run():
        status = dependencies.main()
        return status, out.read_text() if out.exists() else None

    return run


def test_the_lists_of_the_machine_are_taken_where_it_has_them(run, monkeypatch):
    monkeypatch.setattr(dependencies, "of_this_machine", lambda: MANY)
    status, text = run()
    assert status == 0 and text.startswith("Package: p00000\nDepends: libc6 (>= 2.34)\n\nPackage: p00001\n")
    assert len(text.split("\n\n")) == len(MANY)


def test_a_machine_without_lists_asks_the_archive(run, monkeypatch):
    monkeypatch.setattr(dependencies, "of_this_machine", lambda: {"dpkg": {"Package": "dpkg"}})
    assert run() == (0, "Package: a\nPre-Depends: d\nDepends: b | c\n\nPackage: b\n")


def test_where_neither_answers_the_reason_is_given(run, monkeypatch, capsys):
    def away(*_):
        raise archive.ArchiveError("the index has expired")

    monkeypatch.setattr(dependencies, "of_this_machine", dict)
    monkeypatch.setattr(archive, "index", away)
    assert run() == (1, None)
    assert capsys.readouterr().err == "debian: the index has expired\n"
