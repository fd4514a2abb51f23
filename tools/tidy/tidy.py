"""The house rules of this repository, as complaints: `file:line: what; what to do`.

A line that must break a rule says why in a comment on it: `# tidy: <reason>`.
"""

import argparse
import ast
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from tools.lint.pack_tree import files
from tools.tidy import layer_rules, python_rules, text_rules, tree_rules
from tools.tidy.complaint import Complaint, Source, not_excused

NOT_TEXT = (".binpb", ".gpg", ".bz2", ".gz", ".png", ".ico", ".jar", ".woff2")


def check_source(source: Source) -> list[Complaint]:
    """What the rules have to say about one file."""
    found = [c for rule in text_rules.RULES for c in rule(source)]
    if source.name.endswith(".py"):
        try:
            tree = ast.parse(source.text)
        except SyntaxError as e:
            return [Complaint(source.path, e.lineno or 0, f"is not Python: {e.msg}", "mend it")]
        for rule in (*python_rules.RULES, *layer_rules.RULES):
            found += rule(source, tree)
    return sorted(set(not_excused(source, found)))


def check(sources: Iterable[Source]) -> list[Complaint]:
    """What the rules have to say about a tree of files."""
    sources = list(sources)
    found = [c for source in sources for c in check_source(source)]
    paths = {source.path for source in sources}
    found += [c for rule in tree_rules.RULES for c in rule(paths)]
    return sorted(found)


def read(root: Path) -> list[Source]:
    """The text files of a checkout (testdata apart)."""
    sources = []
    for path in files(root, [p.name for p in root.iterdir() if p.name not in (".git", ".bazel")]):
        if path.endswith(NOT_TEXT) or "/testdata/" in path:
            continue
        try:
            sources.append(Source(path, (root / path).read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # not a text: no rule speaks of it
    return sources


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    parser.add_argument("root", nargs="?", type=Path, default=default)
    found = check(read(parser.parse_args().root))
    print("\n".join(map(str, found)) or "tidy")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
