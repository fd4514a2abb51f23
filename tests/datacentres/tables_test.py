"""The tables in the README are those that the tests hold, and each fault has its test."""

import ast
from pathlib import Path

import pytest

from tests.datacentres import tables
from tests.datacentres.faults import FAULTS
from tests.datacentres.promises import KINDS, Cell
from tools.lint import tree


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return tree.unpack(tmp_path_factory.mktemp("checkout"))


def test_the_tables_are_current(checkout):
    text = (checkout / tables.README).read_text()
    assert tables.current(text) == text, "run: ./bazelw run //tests/datacentres:tables"


def test_each_fault_is_played(checkout):
    files = (checkout / Path("tests/datacentres")).glob("*_test.py")
    nodes = [node for file in files for node in ast.parse(file.read_text()).body]
    played = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    assert {fault.test for fault in FAULTS} <= played


def test_a_document_without_the_marks_is_told():
    with pytest.raises(ValueError, match="'consistency' 0 times"):
        tables.current("# storage\n")


def test_no_kind_promises_more_with_a_data_centre_away_than_with_both():
    for kind in KINDS:
        for line in kind.lines:
            assert line.other_away in (line.both, Cell.AWAY)
            assert line.own_away in (Cell.AWAY, Cell.HOME)
