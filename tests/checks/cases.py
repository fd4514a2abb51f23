"""Tables of what must hold, and the tests that are named for each row.

A row begins `| id | what must hold |`; the tests are found by name (`test_n01_…` is N01's, `test_ses_03_ses_22_…` of
two), so that what stands behind is never written by hand:

    ./bazelw run //tests/checks:cases
"""

import ast
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_FOLDERS = ("libs", "services", "tests", "tools")
Tests = Mapping[str, list[str]]
"""Id → "path::function", sorted."""


@dataclass(frozen=True, eq=False)
class Document:
    """A document with one table. `ids` are its rows' (as a pattern), `named` finds them in the name of a test, in lower
    case with _ for -. `open`: rows that have no test yet, and why; `partly`: rows whose tests show a part, and which is
    open. With `status` the table has a column for that.
    """

    path: Path
    ids: str
    named: str
    open: Mapping[str, str] = field(default_factory=dict)
    partly: Mapping[str, str] = field(default_factory=dict)
    status: bool = False

    def listed(self, text: str) -> dict[str, str]:
        """The rows of the document: id → what must hold."""
        row = self._row()
        return {found.group(1): found.group(2) for line in text.splitlines() if (found := row.match(line))}

    def tests(self, root: Path) -> dict[str, list[str]]:
        """The tests below `root` that are named for a row."""
        name = re.compile(rf"test((?:_{self.named})+)(?:_|$)")
        found: dict[str, list[str]] = {}
        for folder in _FOLDERS:
            for file in sorted((root / folder).rglob("*_test.py")):
                path = file.relative_to(root).as_posix()
                for function in _functions(file.read_text(encoding="utf-8")):
                    named = name.match(function.lower())
                    for one in re.findall(self.named, named.group(1)) if named else ():
                        found.setdefault(one.upper().replace("_", "-"), []).append(f"{path}::{function}")
        return found

    def missing(self, text: str, tests: Tests) -> list[str]:
        """Ids of the rows that have no test and should."""
        return [row for row in self.listed(text) if row not in tests and row not in self.open]

    def current(self, text: str, tests: Tests) -> str:
        """The document with what stands behind each row as it is."""
        row, lines = self._row(), []
        for line in text.splitlines():
            if found := row.match(line):
                cells = [found.group(1), found.group(2), self._cell(found.group(1), tests)]
                if self.status:
                    cells.append(self._status(found.group(1), tests))
                line = f"| {' | '.join(cells)} |"
            lines.append(line)
        return "\n".join(lines) + "\n"

    def _row(self) -> re.Pattern[str]:
        more = r" [^|]*\|" if self.status else ""
        return re.compile(rf"^\| ({self.ids}) \| ([^|]*?) \| [^|]*\|{more}$")

    def _cell(self, row: str, tests: Tests) -> str:
        """The files with tests of the row, and how many tests each has if several."""
        counts: dict[str, int] = {}
        for test in tests.get(row, []):
            path = test.partition("::")[0]
            counts[path] = counts.get(path, 0) + 1
        if not counts:
            return ("none" if self.status else self.open.get(row)) or "none"
        return "<br>".join(f"`{path}`" + (f" ({count})" if count > 1 else "") for path, count in counts.items())

    def _status(self, row: str, tests: Tests) -> str:
        if row in self.open:
            return f"open: {self.open[row]}"
        if row not in tests:
            return "no test"
        return f"tested; open: {self.partly[row]}" if row in self.partly else "tested"


PROPAGATION = Document(Path("docs/propagation-cases.md"), r"N\d\d", r"n\d\d")
SESSION = Document(
    Path("services/session/README.md"),
    r"SES-\d\d",
    r"ses_\d\d",
    status=True,
)
DOCUMENTS = (PROPAGATION, SESSION)


def _functions(text: str) -> Iterable[str]:
    nodes = ast.walk(ast.parse(text))
    return sorted(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def main() -> int:
    """Writes the columns anew in the checkout."""
    root = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    for document in DOCUMENTS:
        text = (root / document.path).read_text(encoding="utf-8")
        tests = document.tests(root)
        (root / document.path).write_text(document.current(text, tests), encoding="utf-8")
        without = document.missing(text, tests)
        told = f"; without a test: {', '.join(without)}" if without else ""
        sys.stdout.write(f"{document.path}: {len(document.listed(text))} rows{told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
