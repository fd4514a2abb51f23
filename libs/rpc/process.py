"""What a server process has to do with its operating system: its parent, its ready line."""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal this process gets when its parent ends."""


def die_with_parent(parent: int) -> None:
    """Has the kernel send this process SIGTERM when its parent ends; sends it at once when ``parent`` is gone already.

    ``parent`` is the parent's pid as it was when the process began. Linux only; raises OSError where the kernel
    refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def announce(ready: Mapping[str, object], ready_file: str | None) -> None:
    """Writes ``ready`` as one line of JSON to standard output, and to ``ready_file`` in one piece.

    Standard output may be closed: nobody has to read it.
    """
    line = json.dumps(ready, separators=(",", ":"))
    if ready_file is not None:
        path = Path(ready_file)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(line + "\n", encoding="utf-8")
        beside.replace(path)
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        # The reader has gone. Python would meet the same error once more while it shuts down.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
