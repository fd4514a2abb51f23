"""Runs `bazel test`, then says what it came to: `python3 -m tools.bazel.test_command BAZEL [OPTION]... test [ARG]...`.

Used by bazelw. Bazel's output and exit code are its own; the report (see summary.py) comes last, on stdout.
"""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.bazel.summary import summarise

OPTION = "--build_event_json_file"


def event_file(command: Sequence[str]) -> Path | None:
    """The build event file that the user asked for, if so."""
    words = list(command)
    if "--" in words:
        words = words[: words.index("--")]
    found = None
    for i, word in enumerate(words):
        if word.startswith(OPTION + "="):
            found = Path(word.partition("=")[2])
        elif word == OPTION and i + 1 < len(words):
            found = Path(words[i + 1])
    return found


def with_event_file(command: Sequence[str], path: Path) -> list[str]:
    """`command` with the option, right after the word `test`."""
    at = list(command).index("test") + 1
    return [*command[:at], f"{OPTION}={path}", *command[at:]]


def run(command: Sequence[str]) -> int:
    """Runs `command`, leaving Ctrl-C to it; its exit code (128 + n when signal n ended it)."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        code = process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def main(command: Sequence[str]) -> int:
    given = event_file(command)
    with tempfile.TemporaryDirectory(prefix="bazelw-") as tmp:
        path = given or Path(tmp) / "events.json"
        code = run(command if given else with_event_file(command, path))
        sys.stderr.flush()
        print("\n".join(summarise(path, code).lines()), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
