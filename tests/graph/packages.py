"""Debian's packages as a graph, computed with sets and lists alone: the yardstick that the engine is compared with.

What depends on what: package P depends on the name N if N stands in P's Pre-Depends or Depends, in any alternative,
whatever version or architecture it asks for. A name is taken as it stands: a virtual package (one that others provide)
is a name of its own, without dependencies. A package does not depend on itself, and on each name once.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

Graph = Mapping[str, frozenset[str]]
"""The names that each package depends on, by package."""
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9+.\-]*)")
_FIELDS = ("Pre-Depends", "Depends")


def read(path: Path) -> dict[str, frozenset[str]]:
    """The graph of a control file (deb822(5): paragraphs of "Field: value" lines)."""
    return dict(_packages(path.read_text(encoding="utf-8")))


def _packages(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    for paragraph in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if line)
        if fields:
            named = frozenset(name for field in _FIELDS for name in _names(fields.get(field, "")))
            yield fields["Package"], named - {fields["Package"]}


def _names(relation: str) -> Iterator[str]:
    """The names in "a (>= 1) [arch], b:any | c": a, b, c."""
    for part in re.split(r"[,|]", relation):
        if found := _NAME.match(part):
            yield found.group(1)


def reverse(graph: Graph) -> dict[str, frozenset[str]]:
    """The packages that depend on each name."""
    found: dict[str, set[str]] = {}
    for package, names in graph.items():
        for name in names:
            found.setdefault(name, set()).add(package)
    return {name: frozenset(packages) for name, packages in found.items()}


def reached(dependents: Graph, start: str) -> set[str]:
    """All that depends on `start`, however far, and `start`."""
    found, waiting = {start}, [start]
    while waiting:
        fresh = dependents.get(waiting.pop(), frozenset()) - found
        found |= fresh
        waiting += fresh
    return found


def cycles(graph: Graph) -> list[frozenset[str]]:
    """The strongly connected components of more than one package (R. Tarjan, "Depth-first search and linear graph
    algorithms", 1972; here with a stack of its own instead of recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    open_names: dict[str, None] = {}
    found: list[frozenset[str]] = []
    for start in graph:
        if start in index:
            continue
        path: list[tuple[str, Iterator[str]]] = []
        _enter(start, graph, index, low, open_names, path)
        while path:
            name, ahead = path[-1]
            target = next((one for one in ahead if one in graph and (one not in index or one in open_names)), None)
            if target is None:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[name])
                if low[name] == index[name] and len(component := _close(name, open_names)) > 1:
                    found.append(component)
            elif target in index:
                low[name] = min(low[name], index[target])
            else:
                _enter(target, graph, index, low, open_names, path)
    return found


def _enter(
    name: str,
    graph: Graph,
    index: dict[str, int],
    low: dict[str, int],
    open_names: dict[str, None],
    path: list[tuple[str, Iterator[str]]],
) -> None:
    index[name] = low[name] = len(index)
    open_names[name] = None
    path.append((name, iter(graph[name])))


def _close(name: str, open_names: dict[str, None]) -> frozenset[str]:
    """Takes the names entered since `name`, and it, off what is open."""
    component = set()
    while True:
        last, _ = open_names.popitem()
        component.add(last)
        if last == name:
            return frozenset(component)
