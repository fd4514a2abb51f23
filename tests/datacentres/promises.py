"""What storage on a cluster of two data centres answers, by namespace and by named consistency, with one of them away.

The table is data: ``consistency_test.py`` holds every cell against real servers, and ``tables.py`` writes it into the
README of storage.
"""

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple

from wellspring.storage.v1 import storage_pb2 as pb


class Cell(enum.Enum):
    """What a call answers; the value is the README's word for it."""

    DONE = "done"
    NEWEST = "the newest"
    HERE = "the newest written here"
    SOME = "what has come here"
    AWAY = "UNAVAILABLE"
    HOME = "refused: ask its home"


class Asked(NamedTuple):
    """What is asked. ``verb``: put, outcome or get; ``cookie``: whose write's cookie the get brings, "here" or
    "elsewhere"."""

    verb: str
    consistency: int = pb.CONSISTENCY_UNSPECIFIED
    cookie: str = ""

    def __str__(self) -> str:
        if self.verb == "get" and self.cookie:
            return f"`Get` with the cookie of a write made {self.cookie}"
        if self.verb == "get":
            return f"`Get`, {pb.Consistency.Name(self.consistency).removeprefix('CONSISTENCY_')}"  # type: ignore[arg-type]
        return {"put": "`Put`", "outcome": "`GetOutcome`"}[self.verb]


PUT: Final = Asked("put")
OUTCOME: Final = Asked("outcome")
EVENTUAL: Final = Asked("get", pb.CONSISTENCY_EVENTUAL)
LOCAL: Final = Asked("get", pb.CONSISTENCY_LOCAL)
STRONG_LOCAL: Final = Asked("get", pb.CONSISTENCY_STRONG_LOCAL)
STRONG_GLOBAL: Final = Asked("get", pb.CONSISTENCY_STRONG_GLOBAL)
COOKIE_HERE: Final = Asked("get", cookie="here")
COOKIE_ELSEWHERE: Final = Asked("get", cookie="elsewhere")


class Line(NamedTuple):
    """One question's answers: with both data centres up, with the other one away, with the own one away (its servers
    run, its nodes do not)."""

    asked: Asked
    both: Cell
    other_away: Cell
    own_away: Cell


class Kind(NamedTuple):
    """A kind of namespace, asked in ``datacentres``. ``title`` is the README's."""

    title: str
    namespace: str
    datacentres: Sequence[str]
    lines: Sequence[Line]


DATACENTRES: Final = ("dc1", "dc2")
HOME: Final = "dc1"

KINDS: Final = (
    Kind(
        "CAS with a home, asked there",
        "homed",
        (HOME,),
        (
            Line(PUT, Cell.DONE, Cell.DONE, Cell.AWAY),
            Line(OUTCOME, Cell.DONE, Cell.DONE, Cell.AWAY),
            Line(EVENTUAL, Cell.SOME, Cell.SOME, Cell.AWAY),
            Line(LOCAL, Cell.NEWEST, Cell.NEWEST, Cell.AWAY),
            Line(STRONG_LOCAL, Cell.NEWEST, Cell.NEWEST, Cell.AWAY),
            Line(STRONG_GLOBAL, Cell.NEWEST, Cell.NEWEST, Cell.AWAY),
            Line(COOKIE_HERE, Cell.NEWEST, Cell.NEWEST, Cell.AWAY),
        ),
    ),
    Kind(
        "CAS with a home, asked elsewhere",
        "homed",
        tuple(one for one in DATACENTRES if one != HOME),
        (
            Line(PUT, Cell.HOME, Cell.HOME, Cell.HOME),
            Line(OUTCOME, Cell.HOME, Cell.HOME, Cell.HOME),
            Line(EVENTUAL, Cell.SOME, Cell.SOME, Cell.AWAY),
            Line(LOCAL, Cell.SOME, Cell.SOME, Cell.AWAY),
            Line(STRONG_LOCAL, Cell.HOME, Cell.HOME, Cell.HOME),
            Line(STRONG_GLOBAL, Cell.HOME, Cell.HOME, Cell.HOME),
            Line(COOKIE_ELSEWHERE, Cell.NEWEST, Cell.AWAY, Cell.AWAY),
        ),
    ),
    Kind(
        "CAS without a home",
        "homeless",
        DATACENTRES,
        (
            Line(PUT, Cell.DONE, Cell.AWAY, Cell.AWAY),
            Line(OUTCOME, Cell.DONE, Cell.AWAY, Cell.AWAY),
            Line(EVENTUAL, Cell.SOME, Cell.SOME, Cell.AWAY),
            Line(LOCAL, Cell.HERE, Cell.HERE, Cell.AWAY),
            Line(STRONG_LOCAL, Cell.NEWEST, Cell.AWAY, Cell.AWAY),
            Line(STRONG_GLOBAL, Cell.NEWEST, Cell.AWAY, Cell.AWAY),
            Line(COOKIE_HERE, Cell.HERE, Cell.HERE, Cell.AWAY),
            Line(COOKIE_ELSEWHERE, Cell.NEWEST, Cell.AWAY, Cell.AWAY),
        ),
    ),
    Kind(
        "LWW",
        "merged",
        DATACENTRES,
        (
            Line(PUT, Cell.DONE, Cell.DONE, Cell.AWAY),
            Line(OUTCOME, Cell.DONE, Cell.DONE, Cell.AWAY),
            Line(EVENTUAL, Cell.SOME, Cell.SOME, Cell.AWAY),
            Line(LOCAL, Cell.HERE, Cell.HERE, Cell.AWAY),
            Line(STRONG_LOCAL, Cell.HERE, Cell.HERE, Cell.AWAY),
            Line(STRONG_GLOBAL, Cell.NEWEST, Cell.AWAY, Cell.AWAY),
            Line(COOKIE_HERE, Cell.HERE, Cell.HERE, Cell.AWAY),
            Line(COOKIE_ELSEWHERE, Cell.NEWEST, Cell.AWAY, Cell.AWAY),
        ),
    ),
)


def table() -> str:
    """The table as the README has it; questions with the same answers share a line."""
    lines = [
        "| namespace | call | both up | the other data centre away | its own away |",
        "|---|---|---|---|---|",
    ]
    for kind in KINDS:
        shared: dict[tuple[Cell, Cell, Cell], list[str]] = {}
        for line in kind.lines:
            shared.setdefault((line.both, line.other_away, line.own_away), []).append(str(line.asked))
        for cells, some in shared.items():
            answers = " | ".join(cell.value for cell in cells)
            lines.append(f"| {kind.title} | {'; '.join(some)} | {answers} |")
    return "\n".join(lines) + "\n"
