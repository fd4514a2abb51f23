"""Reads requirements.in: a line for each distribution, with its bounds and marker."""

import re
from dataclasses import dataclass, replace

NAME = r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)"
BOUND = r"[<>=!~]=?\s*[0-9][0-9A-Za-z.*+!-]*"
LINE = re.compile(rf"^{NAME}\s*(?P<bounds>({BOUND}(\s*,\s*{BOUND})*)?)\s*(;\s*(?P<marker>[^#]+?))?\s*(#.*)?$")


def canonical(name: str) -> str:
    """A distribution's name as the lock has it: lower case, `-` for every separator."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Requirement:
    """`name`, `bounds` such as ">=2,<3" (may be empty) and `marker` (may be empty)."""

    name: str
    bounds: str
    marker: str

    @property
    def without_marker(self) -> str:
        return self.name + self.bounds

    @property
    def is_bare(self) -> bool:
        return not self.bounds

    def pinned(self, version: str) -> "Requirement":
        return replace(self, bounds=f"=={version}")


def read_requirements(text: str) -> list[Requirement]:
    """The requirements of a requirements.in; a line of another shape, or a name given twice, is a ValueError."""
    found: dict[str, Requirement] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        m = LINE.match(line)
        if not m:
            raise ValueError(
                f"requirements.in:{number}: not `name[bounds] [; marker]` (extras are not allowed): {line!r}"
            )
        name = canonical(m["name"])
        if name in found:
            raise ValueError(f"requirements.in:{number}: {name} is named twice")
        found[name] = Requirement(name, m["bounds"].strip(), (m["marker"] or "").strip())
    return list(found.values())
