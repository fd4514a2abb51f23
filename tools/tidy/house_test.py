"""The tree keeps its own house rules."""

from tools.lint import tree
from tools.tidy import tidy


def test_the_tree_is_tidy(tmp_path):
    found = tidy.check(tidy.read(tree.unpack(tmp_path)))
    assert not found, "\n".join(["", *map(str, found)])
