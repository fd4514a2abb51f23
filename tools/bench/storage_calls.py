"""Rounds of the storage bench: requests of one kind, made anew, sent, and what they took."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import uvloop

from tools.bench.rpc import Started
from tools.bench.rpc_load import CONNECTIONS, Outcome, run_load
from tools.bench.storage_world import SERVICE

IN_FLIGHT = 64
"""Requests under way at once."""
TRIAL = 64
"""Calls that show how many make a round."""


class Work(NamedTuple):
    """One kind of request. ``items`` is what one of them holds; ``check`` looks at the answers."""

    name: str
    method: str
    make: Callable[[int], list[bytes]]
    items: int
    check: Callable[[Sequence[bytes]], None] | None = None


def call(running: Started, work: Work, calls: int, in_flight: int = IN_FLIGHT) -> tuple[float, float, Outcome]:
    """Items a second, CPU microseconds of the server for each, and the calls' outcome. Raises LoadError."""
    requests = work.make(calls + CONNECTIONS)  # one on each connection comes before those that count
    before = running.cpu_s()
    outcome: Outcome = uvloop.run(
        run_load(
            running.address,
            f"{SERVICE}/{work.method}",
            requests,
            calls=calls,
            streams=in_flight // CONNECTIONS,
            keep_answers=work.check is not None,
        )
    )
    used_s = running.cpu_s() - before
    if work.check is not None:
        work.check(outcome.answers)
    return calls * work.items / outcome.seconds, used_s * 1e6 / ((calls + CONNECTIONS) * work.items), outcome
