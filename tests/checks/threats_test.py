"""Every test that the threat model points at is there, and every threat points at one."""

import ast
import re

import pytest

from tools.lint import tree

DOCUMENT = "services/session/THREATS.md"
_LINK = re.compile(r"^\* `([^`:]+)::(\w+)`$", re.MULTILINE)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return tree.unpack(tmp_path_factory.mktemp("checkout"))


def missing(checkout, text):
    """Links of a document to tests that are not there."""
    gone = []
    for path, name in _LINK.findall(text):
        file = checkout / path
        nodes = ast.walk(ast.parse(file.read_text())) if file.exists() else ()
        if name not in {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}:
            gone.append(f"{path}::{name}")
    return gone


def test_each_threat_is_shown_by_tests_that_are_there(checkout):
    text = (checkout / DOCUMENT).read_text()
    threats = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(threats) >= 10
    for threat in threats:
        assert _LINK.search(threat), f"no test shows: {threat.splitlines()[0]}"
    assert text.count("::") == len(_LINK.findall(text)), "a link that is not of the form * `file::test`"
    assert missing(checkout, text) == []


def test_a_link_to_nothing_is_found(tmp_path):
    (tmp_path / "a_test.py").write_text("def test_one():\n    pass\n")
    text = "## x\n* `a_test.py::test_one`\n* `a_test.py::test_two`\n* `b_test.py::test_one`\n"
    assert missing(tmp_path, text) == ["a_test.py::test_two", "b_test.py::test_one"]
