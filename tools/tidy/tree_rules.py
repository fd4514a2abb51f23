"""House rules on the tree as a whole: which files must lie beside which."""

import re
from collections.abc import Collection, Iterator

from tools.tidy.complaint import Complaint

DECISIONS = "docs/decisions/"


def folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def build_files(paths: Collection[str]) -> Iterator[Complaint]:
    """Every folder with Python is a Bazel package."""
    folders = {folder_of(p) for p in paths if p.endswith(".py") and "/testdata/" not in p}
    for folder in sorted(folders):
        if (f"{folder}/BUILD" if folder else "BUILD") not in paths:
            what = "has Python files and no BUILD file"
            yield Complaint(folder or ".", 0, what, "add one with py_library and py_test (//tools/python:defs.bzl)")


def decisions(paths: Collection[str]) -> Iterator[Complaint]:
    """Decision records are numbered, each number once."""
    seen: dict[str, str] = {}
    for path in sorted(p for p in paths if p.startswith(DECISIONS) and p != DECISIONS + "README.md"):
        m = re.fullmatch(r"(\d{4})-[a-z0-9]+(-[a-z0-9]+)*\.md", path.removeprefix(DECISIONS))
        if not m:
            yield Complaint(path, 0, "is not named NNNN-what-was-decided.md", "rename it")
        elif m[1] in seen:
            yield Complaint(path, 0, f"has the number of {seen[m[1]]}", "take the next free number")
        else:
            seen[m[1]] = path


def readmes(paths: Collection[str]) -> Iterator[Complaint]:
    """Every service says what it promises and what not."""
    for service in sorted({p.split("/")[1] for p in paths if p.startswith("services/") and p.count("/") >= 2}):
        if f"services/{service}/README.md" not in paths:
            what = "has no README.md"
            yield Complaint(f"services/{service}", 0, what, "say what the service promises, what not, and why")


RULES = [build_files, decisions, readmes]
