"""ruff over every Python file of the tree: rules and format (settings: ruff.toml at the root)."""

import pytest

from tools.lint import tree

RUFF = tree.runfile("pypi/ruff/bin/ruff")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tree.unpack(tmp_path_factory.mktemp("tree"))


@pytest.mark.parametrize("command", [["check"], ["format", "--check", "--diff"]], ids=["check", "format"])
def test_ruff(root, command):
    said = tree.complaints([RUFF, *command, "--no-cache", "."], root)
    assert not said, f"to mend most of it: ./bazelw run //tools/lint:fix\n{said}"
