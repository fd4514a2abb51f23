"""mypy --strict over every Python file of the tree (settings: mypy.ini at the root).

Generated code is checked against its stubs. Tests may leave functions untyped; these are then not looked into.
"""

import os
import re
import sys

from tools.lint import tree

TEST_SECTION = """
[mypy-{modules}]
disallow_untyped_defs = False
disallow_incomplete_defs = False
disallow_untyped_calls = False
disallow_untyped_decorators = False
disallow_any_generics = False
check_untyped_defs = False
disable_error_code = annotation-unchecked
"""


def modules(files):
    """The modules' names, as mypy has them."""
    names = [f.removeprefix("libs/client/").removesuffix(".py").replace("/", ".") for f in files]
    return [re.sub(r"\.__init__$", "", name) for name in names]


def test_types(tmp_path, monkeypatch):
    root = tree.unpack(tmp_path)
    sources = [f for f in tree.source_files(root, ".py") if "/testdata/" not in f]
    tests = modules(f for f in sources if f.endswith(("_test.py", "/conftest.py")))
    config = root / "mypy.ini"
    config.write_text(config.read_text() + TEST_SECTION.format(modules=",".join(tests)))
    generated = str(tree.runfile(tree.MAIN_REPOSITORY) / "protos")
    # The third-party packages; what of the checkout is among this test's own runfiles would be found twice.
    sites = [p for p in sys.path if p.endswith("/site")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sites))
    monkeypatch.setenv("MYPYPATH", generated)
    # A process of its own: mypy leaves without taking its big heap apart.
    command = [
        sys.executable,
        "-S",
        "-m",
        "mypy",
        "--cache-dir=/dev/null",
        "--no-error-summary",
        "--hide-error-context",
    ]
    said = tree.complaints([*command, *sources], root)
    assert not said, said
