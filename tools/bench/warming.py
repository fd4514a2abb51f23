"""Warming up before rounds are measured: a Cassandra node compiles what it runs often, and each kind of work runs some
code of its own. So whoever is measured first would pay for all the others."""

import time
from collections.abc import Callable, Sequence

_TRIALS = 2
"""At least: the first one tells nothing."""
_LONGEST = 4
"""Times the warm-up asked for that it takes at most."""
_SETTLED = 0.9
"""A work is warm when it costs the node no less than this share of what it cost some trials before."""


def warm_up(trial: Callable[[], Sequence[float]], asked_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
    """Trials for as long as asked for, and then until none of the works that they are costs the node less than before.

    ``trial`` runs each work for a moment, in turn, and tells what a call of each cost the node, in the same order.
    """
    began_s = now_s()
    costs: list[Sequence[float]] = []
    while True:
        costs.append(trial())
        took_s = now_s() - began_s
        if len(costs) < _TRIALS or took_s < asked_s:
            continue
        if took_s >= _LONGEST * asked_s or all(settled(of_one) for of_one in zip(*costs, strict=True)):
            return


def settled(costs: Sequence[float]) -> bool:
    """Whether a work is warm, by what its trials cost the node."""
    return len(costs) >= 6 and sum(costs[-3:]) >= _SETTLED * sum(costs[-6:-3])
