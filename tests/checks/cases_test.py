"""Every row of the tables has a test of its name, and the tables are current."""

import dataclasses

import pytest

from tests.checks import cases
from tools.lint import tree

ALL = {
    cases.PROPAGATION: {f"N{number:02}" for number in range(1, 35)},
    cases.SESSION: {f"SES-{number:02}" for number in range(1, 34)},
}
each = pytest.mark.parametrize("document", cases.DOCUMENTS, ids=lambda document: document.path.name)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return tree.unpack(tmp_path_factory.mktemp("checkout"))


@each
def test_every_row_has_a_test_of_its_name(checkout, document):
    text = (checkout / document.path).read_text()
    tests = document.tests(checkout)
    assert set(document.listed(text)) == ALL[document]
    assert set(tests) <= ALL[document], "a test is named for a row that is not listed"
    assert document.missing(text, tests) == [], "rows without a test"
    assert not set(document.open) & set(tests), "a row that is open has a test"


@each
def test_the_table_is_current(checkout, document):
    text = (checkout / document.path).read_text()
    assert document.current(text, document.tests(checkout)) == text, "run: ./bazelw run //tests/checks:cases"


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
    propagation = dataclasses.replace(cases.PROPAGATION, open={"N19": "not yet: two moons"})
    tests = propagation.tests(tmp_path)
    assert tests == {
        "N01": [
            "libs/a/x_test.py::test_n01_again",
            "libs/a/x_test.py::test_n01_killed",
            "services/b/x_test.py::test_n01",
        ]
    }
    assert propagation.missing(document, tests) == ["N02"]
    rows = propagation.current(document, tests).splitlines()[4:]
    assert rows == [
        "| N01 | a kill → nothing lost | `libs/a/x_test.py` (2)<br>`services/b/x_test.py` |",
        "| N02 | another → the same | none |",
        "| N19 | far → near | not yet: two moons |",
    ]


SESSION = """\
| id | requirement | tests | status |
|---|---|---|---|
| SES-01 | one | | |
| SES-03 | three | `old_test.py` | tested |
| SES-09 | nine | | |
| SES-12 | twelve | | |
| SES-22 | twenty-two | | |
"""


def test_a_test_may_be_of_two_rows_and_what_is_open_is_said(tmp_path):
    for folder in ("libs", "services", "tests", "tools"):
        (tmp_path / folder).mkdir()
    text = "def test_ses_03_ses_22_nothing():\n    pass\n\n\ndef test_SES_09():\n    pass\n"
    (tmp_path / "services/x_test.py").write_text(text)
    told = {"SES-12": "two moons"}, {"SES-09": "two moons"}
    session = dataclasses.replace(cases.SESSION, open=told[0], partly=told[1])
    document = SESSION.replace("| | |", "|  |  |")
    tests = session.tests(tmp_path)
    assert set(tests) == {"SES-03", "SES-09", "SES-22"}
    assert session.missing(document, tests) == ["SES-01"]
    rows = session.current(document, tests).splitlines()[2:]
    assert rows == [
        "| SES-01 | one | none | no test |",
        "| SES-03 | three | `services/x_test.py` | tested |",
        "| SES-09 | nine | `services/x_test.py` | tested; open: two moons |",
        "| SES-12 | twelve | none | open: two moons |",
        "| SES-22 | twenty-two | `services/x_test.py` | tested |",
    ]
    current = session.current(document, tests)
    assert session.current(current, tests) == current
