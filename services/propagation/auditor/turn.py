"""One turn of the sweep, as it is kept on disk: how far it is, what it has counted, what it has found."""

import datetime
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from services.propagation.auditor.judging import Finding

FORMAT = 1
EXAMPLES_EACH = 10
"""Of each kind of finding."""
MOST_PROBLEMS = 20


@dataclass(slots=True)
class Tally:
    """Counts by name, and examples of what was found."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)

    def found(self, finding: Finding, where: str, resource: str, detail: str = "") -> None:
        """Counts a finding and keeps it as an example while there are few."""
        self.counts[finding.value] += 1
        self.example(finding.value, where, resource, detail)

    def example(self, kind: str, where: str, resource: str, detail: str = "") -> None:
        """Keeps an example of a kind while there are few."""
        if sum(one["kind"] == kind for one in self.examples) < EXAMPLES_EACH:
            self.examples.append({"kind": kind, "where": where, "resource": resource, "detail": detail})

    def add(self, other: "Tally") -> None:
        """Takes in what another one counted."""
        self.counts.update(other.counts)
        for one in other.examples:
            self.example(one["kind"], one["where"], one["resource"], one["detail"])


@dataclass(slots=True)
class Turn:
    """A turn under way or ended. Times are nanoseconds since 1970; `ended_ns` 0: under way.

    `done` are the parts that are over, `at` is the present one ("outputs:html", "orphans:pages"), which goes on at
    `token`.
    """

    number: int
    began_ns: int
    done: list[str] = field(default_factory=list)
    at: str = ""
    token: str = ""
    tally: Tally = field(default_factory=Tally)
    problems: list[dict[str, str]] = field(default_factory=list)
    resumed: int = 0
    ended_ns: int = 0

    def problem(self, where: str, what: str) -> None:
        """A part that could not be swept."""
        self.tally.counts["problems"] += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append({"where": where, "what": what})

    @property
    def findings(self) -> dict[str, int]:
        """How many of each kind."""
        return {kind.value: self.tally.counts[kind.value] for kind in Finding}

    def plain(self) -> dict[str, Any]:
        """For the file."""
        return {
            "format": FORMAT,
            "turn": self.number,
            "began_ns": self.began_ns,
            "ended_ns": self.ended_ns,
            "done": self.done,
            "at": self.at,
            "token": self.token,
            "resumed": self.resumed,
            "counts": dict(self.tally.counts),
            "examples": self.tally.examples,
            "problems": self.problems,
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self | None:
        """From the file; None for one of another format."""
        if plain.get("format") != FORMAT:
            return None
        return cls(
            number=int(plain["turn"]),
            began_ns=int(plain["began_ns"]),
            done=[str(part) for part in plain["done"]],
            at=str(plain["at"]),
            token=str(plain["token"]),
            tally=Tally(Counter(plain["counts"]), list(plain["examples"])),
            problems=list(plain["problems"]),
            resumed=int(plain["resumed"]),
            ended_ns=int(plain["ended_ns"]),
        )

    def told(self) -> dict[str, Any]:
        """For people and programs: the report."""
        return {
            "turn": self.number,
            "began": _iso(self.began_ns),
            "ended": _iso(self.ended_ns),
            "seconds": round(((self.ended_ns or self.began_ns) - self.began_ns) / 1e9, 3),
            "resumed": self.resumed,
            "findings": self.findings,
            "counts": {name: count for name, count in sorted(self.tally.counts.items()) if name not in self.findings},
            "examples": self.tally.examples,
            "problems": self.problems,
        }


def _iso(time_ns: int) -> str:
    if not time_ns:
        return ""
    moment = datetime.datetime.fromtimestamp(time_ns // 1_000_000_000, datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")
