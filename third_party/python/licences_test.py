"""What is built in may be given on: the licences of all locked wheels against the list that Wellspring accepts."""

import json

import pytest

from tools.lint import tree
from tools.pip.licences import licences, refused

ALLOWED = frozenset(
    "0BSD Apache-2.0 BSD-2-Clause BSD-3-Clause CC0-1.0 ISC MIT MIT-0 PSF-2.0 Unlicense Zlib".split()  # noqa: SIM905
)
# Copyleft of single files, which are used as they come and never changed.
EXCEPTIONS = {"certifi": "MPL-2.0", "hypothesis": "MPL-2.0", "pathspec": "MPL-2.0"}


@pytest.fixture(scope="module")
def said():
    return json.loads(tree.runfile("pypi/metadata.json").read_text())


def test_every_wheel_is_under_an_accepted_licence(said):
    assert len(said) > 50
    lines = refused(said, ALLOWED, EXCEPTIONS)
    assert not lines, "\n".join(["", *lines, f"accepted: {', '.join(sorted(ALLOWED))}"])


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({"License-Expression": ["Apache-2.0 AND MIT"]}, [{"Apache-2.0", "MIT"}]),
        ({"License-Expression": ["GPL-3.0 OR MIT"]}, [{"GPL-3.0"}, {"MIT"}]),
        ({"Classifier": ["License :: OSI Approved :: MIT License"], "License": ["whatever"]}, [{"MIT"}]),
        ({"License": ["GNU GPL v3\nlong text"]}, [{"GNU GPL v3"}]),
        ({"License": [""]}, []),
        ({}, []),
    ],
)
def test_what_a_wheel_says(fields, want):
    assert licences(fields) == [frozenset(w) for w in want]


def test_what_is_refused_is_named():
    bad = {"a": {"License": ["GPL-3.0"]}, "b": {}, "c": {"License-Expression": ["GPL-3.0 OR MIT"]}}
    assert refused(bad, ALLOWED, {"z": "MPL-2.0"}) == [
        "a: its wheel says GPL-3.0",
        "b: its wheel says nothing",
        "z: needs no exception (any more)",
    ]
