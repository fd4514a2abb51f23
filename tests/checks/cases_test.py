"""Every case of propagation has a test of its name, and the table of them is current."""

import pytest

from tests.checks import cases
from tools.lint import tree

ALL = {f"N{number:02}" for number in range(1, 35)}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return tree.unpack(tmp_path_factory.mktemp("checkout"))


def test_every_case_has_a_test_of_its_name(checkout):
    document = (checkout / cases.DOCUMENT).read_text()
    tests = cases.tests_by_case(checkout)
    assert set(cases.listed(document)) == ALL
    assert set(tests) <= ALL, "a test is named for a case that is not listed"
    assert cases.missing(document, tests) == [], "cases without a test"


def test_the_table_is_current(checkout):
    document = (checkout / cases.DOCUMENT).read_text()
    assert cases.current(document, cases.tests_by_case(checkout)) == document, "run: ./bazelw run //tests/checks:cases"


DOCUMENT = """\
# Cases

| id | given → expected | tests |
|---|---|---|
| N01 | a kill → nothing lost | old |
| N02 | another → the same | `gone_test.py` |
| N19 | far → near | |
"""


def test_a_case_without_a_test_is_named_and_the_column_follows_the_tree(tmp_path):
    for folder, text in {
        "libs/a": "def test_n01_killed():\n    pass\n\n\nasync def test_n01_again():\n    pass\n",
        "services/b": "class Test:\n    def test_n01(self):\n        pass\n\n    def test_n010(self):\n        pass\n",
        "tests/c": "def n02_test():\n    'test_n02_in_a_text'\n",
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x_test.py").write_text(text)
    document = DOCUMENT.replace("near | |", "near |  |")
    tests = cases.tests_by_case(tmp_path)
    assert tests == {
        "N01": [
            "libs/a/x_test.py::test_n01_again",
            "libs/a/x_test.py::test_n01_killed",
            "services/b/x_test.py::test_n01",
        ]
    }
    assert cases.missing(document, tests) == ["N02"]
    rows = cases.current(document, tests).splitlines()[4:]
    assert rows == [
        "| N01 | a kill → nothing lost | `libs/a/x_test.py` (2)<br>`services/b/x_test.py` |",
        "| N02 | another → the same | none |",
        "| N19 | far → near | not yet: several data centres |",
    ]
