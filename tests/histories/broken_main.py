"""The storage server with a fault in its compare-and-set, so that the judge has something to find:

python -m tests.histories.broken_main FAULT followed by the arguments of services.storage.main
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable
from typing import Any, Final
from unittest import mock

from libs.cassandra.session import LOCAL_SERIAL
from services.storage import main
from services.storage.cassandra import scope
from services.storage.domain.decide import Decision
from services.storage.domain.errors import ConditionFailed
from services.storage.domain.model import Command
from services.storage.store import turn

Decide = Callable[..., Decision]
EACH: Final = 5
"""The faults that happen now and then happen each so many times."""


def blind(decide: Decide) -> Decide:
    """No condition is looked at."""

    def decided(mode: Any, view: Any, command: Command, *rest: Any) -> Decision:
        return decide(mode, view, _unconditional(command), *rest)

    return decided


def lenient(decide: Decide) -> Decide:
    """Now and then a condition that does not hold is let through."""
    count = itertools.count(1)

    def decided(mode: Any, view: Any, command: Command, *rest: Any) -> Decision:
        try:
            return decide(mode, view, command, *rest)
        except ConditionFailed:
            if next(count) % EACH:
                raise
            return decide(mode, view, _unconditional(command), *rest)

    return decided


def forgetful(decide: Decide) -> Decide:
    """Now and then a write is acknowledged and not done."""
    count = itertools.count(1)

    def decided(*arguments: Any) -> Decision:
        decision = decide(*arguments)
        if next(count) % EACH == 0:
            decision.puts, decision.removed = [], {}
        return decision

    return decided


FAULTS: Final = {fault.__name__: fault for fault in (blind, lenient, forgetful)}
"""Of every backend."""
APART: Final = "apart"
"""Of a cluster: each data centre decides for itself what all of them should decide."""


def _unconditional(command: Command) -> Command:
    puts = tuple(put._replace(condition=None) for put in command.puts)
    deletes = tuple(delete._replace(condition=None) for delete in command.deletes)
    return command._replace(puts=puts, deletes=deletes, record_condition=None)


def run() -> int:
    """Serves with the fault that the first argument names."""
    name = sys.argv.pop(1)
    with contextlib.ExitStack() as stack:
        if name == APART:
            stack.enter_context(mock.patch.object(scope, "SERIAL", LOCAL_SERIAL))
        else:
            stack.enter_context(mock.patch.object(turn, "decide", FAULTS[name](turn.__dict__["decide"])))
        return main.main()


if __name__ == "__main__":
    sys.exit(run())
