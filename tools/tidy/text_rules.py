"""House rules on a file's text, whatever its language."""

import re
from collections.abc import Iterator

from tools.tidy.complaint import Complaint, Source

MAX_LINES = 400
CODE = (".py", ".pyi", ".bzl", ".proto", ".sh", ".go", ".html", ".js", ".yaml", ".vcl")
# In two parts each, so that this file passes its own rule.
UNFINISHED = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error", "pragma: no " + "cover"]
MARKER = re.compile(r"(?<![A-Za-z0-9_])(" + "|".join(UNFINISHED) + r")(?![A-Za-z0-9_])")


def is_code(source: Source) -> bool:
    return source.name.endswith(CODE) or source.name in ("BUILD", "WORKSPACE", "bazelw")


def length(source: Source) -> Iterator[Complaint]:
    """A module has one idea and fits under 400 lines."""
    count = source.text.count("\n") + (not source.text.endswith("\n") and bool(source.text))
    if source.name.endswith((".py", ".bzl", ".go")) and count >= MAX_LINES:
        yield Complaint(source.path, count, f"has {count} lines, {MAX_LINES - 1} are allowed", "split it by idea")


def unfinished(source: Source) -> Iterator[Complaint]:
    """Nothing in the tree is left for later, or left out of a measurement."""
    if not is_code(source):
        return
    for number, line in enumerate(source.text.splitlines(), 1):
        if m := MARKER.search(line):
            yield Complaint(source.path, number, f"holds {m[1]!r}", "finish it, or say plainly what is not supported")


def init_file(source: Source) -> Iterator[Complaint]:
    """Folders are namespace packages; only the SDK is a regular one."""
    if source.name == "__init__.py" and not source.under("libs/client/wellspring_client"):
        yield Complaint(source.path, 0, "packages here are namespace packages", "delete this file")


RULES = [length, unfinished, init_file]
