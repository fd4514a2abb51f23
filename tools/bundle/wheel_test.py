"""Wheels have what is imported and nothing else, a version that pip understands, and the same bytes each time."""

import zipfile

import pytest

from tools.bundle import make_wheel

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "sample"
dynamic = ["version"]
[tool.setuptools.packages.find]
include = ["sample*"]
[tool.setuptools.dynamic]
version = { file = "VERSION" }
"""
STATUS = {"STABLE_VERSION": "v1.2.3-4-g0a1b2c3", "STABLE_COMMIT_EPOCH": "1700000000"}


@pytest.mark.parametrize(
    ("described", "version"),
    [
        ("v1.2.3", "1.2.3"),
        ("v1.2.3-4-g0a1b2c3", "1.2.3.post4+g0a1b2c3"),
        ("0a1b2c3", "0.0.0+g0a1b2c3"),
        ("0.0.0", "0.0.0"),
        ("unknown", make_wheel.UNSTAMPED),
        ("v1.2.3-rc", make_wheel.UNSTAMPED),
    ],
)
def test_what_git_describes_is_a_version(described, version):
    assert make_wheel.version(described) == version


def staged(folder, text="x = 1\n"):
    source = folder / "elsewhere.py"
    source.parent.mkdir()
    source.write_text(text)
    to = folder / "staged"
    make_wheel.stage(to, [("libs/a/sample/__init__.py", str(source))], ["libs/a"])
    (to / "pyproject.toml").write_text(PROJECT)
    return to


def test_two_builds_are_the_same_bytes_and_stamped(tmp_path):
    built = []
    for name in ("first", "second"):
        folder = staged(tmp_path / name)
        wheel = folder.parent / make_wheel.build(folder, folder.parent, STATUS)
        assert wheel.name == "sample-1.2.3.post4+g0a1b2c3-py3-none-any.whl"
        built.append(wheel.read_bytes())
    assert built[0] == built[1]
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("sample/__init__.py") == b"x = 1\n"
        assert {one.date_time[:3] for one in archive.infolist()} == {(2023, 11, 14)}


def test_one_that_was_not_stamped_says_so(tmp_path):
    folder = staged(tmp_path / "only")
    assert make_wheel.build(folder, tmp_path, {}) == "sample-0.0.0+unstamped-py3-none-any.whl"


def test_the_deeper_import_root_counts():
    roots = ["libs", "libs/client"]
    assert make_wheel.staged_place("libs/client/a/b.py", roots) == "a/b.py"
    assert make_wheel.staged_place("libs/clients/b.py", roots) == "clients/b.py"


def test_what_cannot_be_imported_is_refused(tmp_path):
    with pytest.raises(make_wheel.WheelError, match="services/x.py is needed.*libs/client"):
        make_wheel.stage(tmp_path, [("services/x.py", "/nowhere")], ["libs/client"])


def test_two_files_for_one_place_are_refused(tmp_path):
    (tmp_path / "x.py").write_text("")
    files = [("a/x.py", str(tmp_path / "x.py")), ("b/x.py", str(tmp_path / "x.py"))]
    with pytest.raises(make_wheel.WheelError, match="x.py lies below two import roots"):
        make_wheel.stage(tmp_path / "staged", files, ["a", "b"])


def test_a_project_file_with_a_mistake_is_told(tmp_path):
    folder = staged(tmp_path / "only")
    (folder / "pyproject.toml").write_text(PROJECT.replace('"sample"', "7"))
    with pytest.raises(make_wheel.WheelError, match="project.name"):
        make_wheel.build(folder, tmp_path, {})
