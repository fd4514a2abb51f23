"""Locking, unpacking and extracting: what is accepted, what is refused and how it is said."""

import hashlib
import zipfile

import pytest

from tools.pip import extract_member, relock
from tools.pip.requirements import Requirement, read_requirements


def test_requirements_are_read():
    text = '# head\nGrpcio\nFoo.Bar >=2,<3  # why\nasync_timeout ; python_full_version < "3.11.3"\n\n'
    assert read_requirements(text) == [
        Requirement("grpcio", "", ""),
        Requirement("foo-bar", ">=2,<3", ""),
        Requirement("async-timeout", "", 'python_full_version < "3.11.3"'),
    ]


@pytest.mark.parametrize("line", ["-r other.txt", "a[extra]", "https://x/y.whl", "--index-url x", "a\nA"])
def test_other_lines_are_refused_with_their_number(line):
    with pytest.raises(ValueError, match=r"requirements\.in:[12]: "):
        read_requirements(line)


def install(name, version, digest):
    return {
        "metadata": {"name": name, "version": version},
        "download_info": {"archive_info": {"hashes": {"sha256": digest}}},
    }


def test_the_lock_has_the_hashes_of_every_interpreter(monkeypatch):
    asked = []

    def report(python, requirements, *options):
        asked.append((list(requirements), options))
        target = options[options.index("--python-version") + 1] if options else "here"
        return [install("Big_Thing", "2.0", f"{target}-big"), install("small", "1.0", "same")]

    monkeypatch.setattr(relock, "report", report)
    found = relock.lock("python", [Requirement("big-thing", ">=2", 'python_version < "3.12"')], ["3.12"])
    assert asked[0] == (["big-thing>=2"], ())
    assert asked[1][0] == ["big-thing==2.0", "small==1.0"]
    assert "".join(d.text() for d in found) == (
        'big-thing==2.0 ; python_version < "3.12" \\\n    --hash=sha256:3.12-big \\\n    --hash=sha256:here-big\n'
        "small==1.0 \\\n    --hash=sha256:same\n"
    )


def test_changes_are_told():
    assert relock.changes("a==1 \\\nb==1 \\\n", "a==2 \\\nc==1 \\\n") == [
        "a: 1 -> 2",
        "b: 1 -> absent",
        "c: absent -> 1",
    ]


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "x.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.txt", "hello")
    return path


def test_a_member_comes_by_its_hash(wheel, tmp_path):
    extract_member.extract(wheel, "x/data.txt", hashlib.sha256(b"hello").hexdigest(), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "hello"


@pytest.mark.parametrize(("member", "what"), [("x/other.txt", "no member"), ("x/data.txt", "locked is")])
def test_another_member_is_refused(wheel, tmp_path, member, what):
    with pytest.raises(SystemExit, match=what):
        extract_member.extract(wheel, member, "0" * 64, tmp_path / "out")
    assert not (tmp_path / "out").exists()
