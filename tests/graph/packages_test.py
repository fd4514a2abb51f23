"""The yardstick itself, on graphs whose answers are plain to see."""

import pytest

from tests.graph import packages

TEXT = """\
Package: a
Pre-Depends: b (>= 1.2~) [amd64], c:any
Depends: d | virtual-thing (= 3), b, a

Package: b
Depends: a

Package: c

Package: d
Depends: libstdc++6
"""


def test_names_are_read_as_they_stand(tmp_path):
    file = tmp_path / "packages.txt"
    file.write_text(TEXT)
    graph = packages.read(file)
    assert graph == {
        "a": {"b", "c", "d", "virtual-thing"},
        "b": {"a"},
        "c": frozenset(),
        "d": {"libstdc++6"},
    }
    dependents = packages.reverse(graph)
    assert dependents["b"] == {"a"} and dependents["libstdc++6"] == {"d"} and "c" in dependents
    assert packages.reached(dependents, "libstdc++6") == {"libstdc++6", "d", "a", "b"}
    assert packages.cycles(graph) == [{"a", "b"}]


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ("ab bc cd", []),
        ("ab ba", ["ab"]),
        ("ab bc ca cd de ed", ["abc", "de"]),
        ("ab bc cb ca", ["abc"]),
        ("ab ac bd cd da ef fe fa", ["abcd", "ef"]),
        ("ab bc cd db", ["bcd"]),
    ],
)
def test_cycles_are_found(edges, expected):
    names = sorted(set(edges) - {" "})
    graph = {name: frozenset(edge[1] for edge in edges.split() if edge[0] == name) for name in names}
    assert sorted("".join(sorted(one)) for one in packages.cycles(graph)) == expected
