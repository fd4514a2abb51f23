"""The cases of docs/propagation-cases.md, and the tests that are named for them.

A case is a row `| id | given → expected | tests |`; the tests are found by name (`def test_n01_…` is of case N01), so
that the last column is never written by hand:

    ./bazelw run //tests/checks:cases
"""

import ast
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

DOCUMENT = Path("docs/propagation-cases.md")
SEVERAL_DATACENTRES = frozenset({"N19", "N20"})
"""Cases that need more than one engine: no test until there are some."""
NOT_YET = "not yet: several data centres"
_FOLDERS = ("libs", "services", "tests", "tools")
_ROW = re.compile(r"^\| (N\d\d) \| (.*?) \| (.*?) \|$")
_TEST = re.compile(r"test_(n\d\d)(?:_|$)")


def tests_by_case(root: Path) -> dict[str, list[str]]:
    """The tests below `root` that are named for a case: case → "path::function", sorted."""
    found: dict[str, list[str]] = {}
    for folder in _FOLDERS:
        for file in sorted((root / folder).rglob("*_test.py")):
            path = file.relative_to(root).as_posix()
            for name in _functions(file.read_text(encoding="utf-8")):
                if named := _TEST.match(name):
                    found.setdefault(named.group(1).upper(), []).append(f"{path}::{name}")
    return found


def _functions(text: str) -> Iterable[str]:
    if "test_n" not in text:
        return []
    nodes = ast.walk(ast.parse(text))
    return sorted(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def listed(document: str) -> dict[str, str]:
    """The cases of the document: id → its given and expected."""
    return {row.group(1): row.group(2) for line in document.splitlines() if (row := _ROW.match(line))}


def missing(document: str, tests: Mapping[str, list[str]]) -> list[str]:
    """Ids of the cases that have no test and should."""
    return [case for case in listed(document) if case not in tests and case not in SEVERAL_DATACENTRES]


def current(document: str, tests: Mapping[str, list[str]]) -> str:
    """The document with the column of the tests as they are."""
    lines = []
    for line in document.splitlines():
        if row := _ROW.match(line):
            line = f"| {row.group(1)} | {row.group(2)} | {_cell(row.group(1), tests)} |"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _cell(case: str, tests: Mapping[str, list[str]]) -> str:
    """The files with tests of the case, and how many tests each has if several."""
    counts: dict[str, int] = {}
    for test in tests.get(case, []):
        path = test.partition("::")[0]
        counts[path] = counts.get(path, 0) + 1
    if not counts:
        return NOT_YET if case in SEVERAL_DATACENTRES else "none"
    return "<br>".join(f"`{path}`" + (f" ({count})" if count > 1 else "") for path, count in counts.items())


def main() -> int:
    """Writes the column anew in the checkout."""
    root = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    document = (root / DOCUMENT).read_text(encoding="utf-8")
    tests = tests_by_case(root)
    (root / DOCUMENT).write_text(current(document, tests), encoding="utf-8")
    without = missing(document, tests)
    told = f"; without a test: {', '.join(without)}" if without else ""
    sys.stdout.write(f"{DOCUMENT}: {len(listed(document))} cases{told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
