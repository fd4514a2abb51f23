"""Writes the tables that the tests hold into the README of storage:

./bazelw run //tests/datacentres:tables
"""

import os
import re
import sys
from pathlib import Path
from typing import Final

from tests.datacentres import faults, promises

README: Final = Path("services/storage/README.md")
TABLES: Final = {"consistency": promises.table, "faults": faults.table}


def current(text: str) -> str:
    """The document with each table as it is, between its marks. Raises ValueError when a mark is missing."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: made by //tests/datacentres:tables -->\n", f"<!-- end of {name} -->\n"
        found = re.findall(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
        if len(found) != 1:
            raise ValueError(f"{README} has the marks of the table {name!r} {len(found)} times, not once")
        text = text.replace(found[0], begin + table() + end)
    return text


def main() -> int:
    """Writes them anew in the checkout."""
    path = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ".")) / README
    path.write_text(current(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
