"""Unpacking wheels: where members go, and which dependencies become edges."""

import sys
import types
import zipfile

import pytest


@pytest.fixture
def unpack_lock(monkeypatch):
    """The module, with the `packaging` of the lock in the place of pip's own copy of it."""
    import packaging.markers
    import packaging.requirements
    import packaging.utils  # noqa: F401 (its entry in sys.modules)

    for name in ("pip", "pip._vendor"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name in ("packaging", "packaging.markers", "packaging.requirements", "packaging.utils"):
        monkeypatch.setitem(sys.modules, f"pip._vendor.{name}", sys.modules[name])
    monkeypatch.delitem(sys.modules, "tools.pip.unpack_lock", raising=False)
    from tools.pip import unpack_lock as module

    return module


@pytest.mark.parametrize(
    ("member", "want"),
    [
        ("a/b.py", "site/a/b.py"),
        ("a-1.data/purelib/a/b.py", "site/a/b.py"),
        ("a-1.data/scripts/tool", "bin/tool"),
        ("a-1.data/headers/a.h", None),
        ("a/tests/test_b.py", None),
    ],
)
def test_where_members_go(unpack_lock, member, want):
    assert unpack_lock.target_path(member) == want


@pytest.mark.parametrize("member", ["../evil.py", "a/../../../evil.py", "a-1.data/scripts/../../../evil"])
def test_a_member_never_leaves_its_folder(unpack_lock, tmp_path, member):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr(member, "x")
    with pytest.raises(SystemExit, match="would leave"):
        unpack_lock.unpack(tmp_path / "a.whl", tmp_path / "deep/down/out")


def edges(unpack_lock, **requires):
    from packaging.requirements import Requirement

    return unpack_lock.dependencies({k: [Requirement(r) for r in v] for k, v in requires.items()})


def test_markers_and_extras_decide(unpack_lock):
    found = edges(unpack_lock, a=["B.x>=1", "c; sys_platform == 'win32'", "d; extra == 'more'", "a[more]"], b_x=[])
    assert found == {"a": ["b_x"], "b_x": []}


def test_a_dependency_that_is_not_locked_is_told(unpack_lock):
    with pytest.raises(SystemExit, match="a needs b, which the lock lacks"):
        edges(unpack_lock, a=["b"])


def test_a_circle_is_opened(unpack_lock):
    found = edges(unpack_lock, a=["b"], b=["c"], c=["a", "d"], d=[])
    assert found == {"a": ["b"], "b": ["c"], "c": ["d"], "d": []}
