"""The verdict on a history, by the program in tools/go/cmd/judge."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tests.histories.recording import History
from tools.dev.servers import locate

LINEARISABLE, NOT_LINEARISABLE, SENSELESS, UNDECIDED = range(4)
"""The judge's exit codes."""
_TRIES: Final = 30


class Verdict(NamedTuple):
    """``code``: one of the above. ``said``: the explanation, or what is wrong with the history."""

    code: int
    said: str


def judge(history: Path, *options: str) -> Verdict:
    """Judges the history in a file.

    Raises ServerUnavailable or ServerRequired where the judge cannot be built.
    """
    program = locate.repository("go_tools") / "bin/judge"
    done = subprocess.run([program, *options, history], capture_output=True, text=True, check=False)
    return Verdict(done.returncode, done.stdout + done.stderr)


def must_be_found_out(folder: Path, play: Callable[[Path, int], History]) -> str:
    """``play(folder, number)`` gives a history of a server with a fault, in a folder of its own. A fault that happens
    now and then may have no effect that anybody is told of in one history: so many are played until one shows it. What
    the judge said of that. Raises AssertionError when none does.
    """
    for number in range(_TRIES):
        place = folder / str(number)
        place.mkdir()
        history = play(place, number)
        history.write(place / "history.jsonl")
        verdict = judge(place / "history.jsonl")
        if verdict.code == NOT_LINEARISABLE:
            return f"history {number}, {dict(history.counts)}: {verdict.said}"
        assert verdict.code == LINEARISABLE, verdict.said
    raise AssertionError(f"{_TRIES} histories of a server with a fault have an order")


def must_be_linearisable(history: Path) -> str:
    """What the judge said. Raises AssertionError with it, and keeps the history among the outputs of the test."""
    verdict = judge(history)
    outputs = os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR")
    if verdict.code != LINEARISABLE and outputs:
        shutil.copy(history, outputs)
    assert verdict.code == LINEARISABLE, verdict.said
    return verdict.said
