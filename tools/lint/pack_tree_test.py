"""The packed checkout depends on names, contents and executable bits, and on nothing else."""

import os
import shutil

import pytest

from tools.lint.pack_tree import files, pack, proto_libraries


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    for name in ("a/b.py", "a/__pycache__/b.pyc", "a/c/d.txt", "top.md", "skipped/x.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def packed(root, tmp_path):
    pack(root, ["a", "top.md"], tmp_path / "out.tar")
    return (tmp_path / "out.tar").read_bytes()


def test_what_is_packed(root):
    assert list(files(root, ["a", "top.md"])) == ["a/b.py", "a/c/d.txt", "top.md"]


def test_times_and_owners_do_not_count(root, tmp_path):
    before = packed(root, tmp_path)
    os.utime(root / "a/b.py", (1, 1))
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    assert packed(root, tmp_path) == packed(copy, tmp_path) == before


@pytest.mark.parametrize("change", ["content", "name", "mode", "more"])
def test_everything_else_counts(root, tmp_path, change):
    before = packed(root, tmp_path)
    file = root / "a/b.py"
    if change == "content":
        file.write_text("other")
    elif change == "name":
        file.rename(root / "a/bb.py")
    elif change == "mode":
        file.chmod(0o755)
    else:
        (root / "a/new.py").write_text("")
    assert packed(root, tmp_path) != before


def test_a_dangling_link_is_left_out(root):
    (root / "a/link").symlink_to("/nowhere")
    assert "a/link" not in list(files(root, ["a"]))


def test_proto_libraries_are_found(root):
    build = root / "protos/x/v1/BUILD"
    build.parent.mkdir(parents=True)
    build.write_text('py_grpc_library(\n    name = "x_py",\n    proto = ":x_proto",\n)\n')
    assert proto_libraries(root) == ["//protos/x/v1:x_py"]
