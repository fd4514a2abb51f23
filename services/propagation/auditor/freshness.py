"""How fresh readers' pages are: looks counted by cache and delay, and how long changed pages stayed stale."""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.propagation.auditor.judging import Verdict
from services.propagation.auditor.looks import Look

RANDOM = "unchanged"
"""The delay's name, of pages that were not picked because they changed."""
EXAMPLES = 20


def delay_name(delay_s: float) -> str:
    """10s, 60s, 0.5s."""
    return f"{delay_s:g}s"


@dataclass(slots=True)
class Staleness:
    """Of changed pages in one cache: after how many seconds each was first seen fresh, by the delays it was looked at.

    `counts[i]` were first fresh at delay i, the last entry at none of them.
    """

    counts: list[int]
    sum_s: float = 0.0


@dataclass(slots=True)
class Freshness:
    """Since the start of the process. `delays_s` ascend."""

    delays_s: tuple[float, ...]
    looks: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By cache, delay and verdict."""
    repairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Purges by cache and outcome: repaired, failed."""
    staleness: dict[str, Staleness] = field(default_factory=dict)
    skipped: int = 0
    """Looks that were due and not made: there were more than could be."""
    examples: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=EXAMPLES))
    """The newest stale looks."""

    def record(self, look: Look, delay: str, view: str, resource: str, unix_s: float) -> None:
        """Counts one look."""
        self.looks[look.cache, delay, look.verdict.value] += 1
        if look.repaired is not None:
            self.repairs[look.cache, "repaired" if look.repaired else "failed"] += 1
        if look.verdict is Verdict.STALE:
            self.examples.append(
                {
                    "view": view,
                    "resource": resource,
                    "cache": look.cache,
                    "at": look.at,
                    "url": look.url,
                    "delay": delay,
                    "seen": look.version.hex() if look.version else "",
                    "repaired": look.repaired,
                    "unix_s": round(unix_s, 3),
                }
            )

    def first_fresh(self, cache: str, delay_s: float | None) -> None:
        """A changed page was fresh in `cache` at this delay and not before; None: at no delay."""
        known = self.staleness.setdefault(cache, Staleness([0] * (len(self.delays_s) + 1)))
        at = len(self.delays_s) if delay_s is None else bisect_left(self.delays_s, delay_s)
        known.counts[at] += 1
        known.sum_s += self.delays_s[-1] if delay_s is None else delay_s

    def told(self) -> dict[str, Any]:
        """For the report: counts and the share of fresh ones ("nines") by cache and delay."""
        rows: dict[tuple[str, str], dict[str, int]] = {}
        for (cache, delay, verdict), count in self.looks.items():
            rows.setdefault((cache, delay), {})[verdict] = count
        order = [delay_name(d) for d in self.delays_s]
        return {
            "shares": [
                {"cache": cache, "delay": delay, **_all_verdicts(row), "fresh_share": share(row)}
                for (cache, delay), row in sorted(rows.items(), key=lambda kv: (kv[0][0], _place(order, kv[0][1])))
            ],
            "repairs": [
                {"cache": cache, "outcome": outcome, "count": count}
                for (cache, outcome), count in sorted(self.repairs.items())
            ],
            "skipped": self.skipped,
            "examples": list(self.examples),
        }


def share(row: dict[str, int]) -> float | None:
    """Of the looks that could be judged, those that were fresh; None when there was none."""
    judged = row.get(Verdict.FRESH, 0) + row.get(Verdict.STALE, 0)
    return round(row.get(Verdict.FRESH, 0) / judged, 6) if judged else None


def _all_verdicts(row: dict[str, int]) -> dict[str, int]:
    wanted = (Verdict.FRESH, Verdict.STALE, Verdict.UNKNOWN, Verdict.UNREACHABLE)
    return {verdict.value: row.get(verdict, 0) for verdict in wanted}


def _place(order: Sequence[str], delay: str) -> int:
    return order.index(delay) if delay in order else len(order)
