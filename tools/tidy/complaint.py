"""What a house rule says when it is broken, and the one way to be excused from it."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

# An exception stands on the line itself, with its reason: `queue.Queue()  # tidy: bounded by the semaphore above`
EXCUSE = re.compile(r"#\s*tidy:\s*\S")


@dataclass(frozen=True, order=True)
class Complaint:
    """One broken rule: `path` relative to the root, `line` from 1 (0: the whole file or folder)."""

    path: str
    line: int
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}; {self.remedy}"


@dataclass(frozen=True)
class Source:
    """One file of the tree."""

    path: str
    text: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def is_test(self) -> bool:
        return self.name.endswith("_test.py") or self.name == "conftest.py" or self.path.startswith("tests/")

    def under(self, *folders: str) -> bool:
        """Whether the file lies in one of `folders`, in which `*` is any one folder."""
        parts = self.path.split("/")[:-1]
        for folder in folders:
            wanted = folder.split("/")
            if len(wanted) <= len(parts) and all(w in ("*", p) for w, p in zip(wanted, parts, strict=False)):
                return True
        return False


Rule = Callable[[Source], Iterable[Complaint]]


def not_excused(source: Source, complaints: Iterable[Complaint]) -> Iterator[Complaint]:
    """Those of `complaints` whose line bears no excuse."""
    lines = source.text.splitlines()
    for complaint in complaints:
        line = lines[complaint.line - 1] if 0 < complaint.line <= len(lines) else ""
        if not EXCUSE.search(line):
            yield complaint
