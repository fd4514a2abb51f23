"""Runs a service under a wall clock that jumps: `python -m tests.system.jumping FILE MODULE ARGUMENT…`.

FILE holds seconds, read each time the clock is asked for, by which the service's wall time differs from the machine's.
Monotonic time is the machine's.
"""

import runpy
import sys
import time
from pathlib import Path

from libs.clock import clock


def main() -> None:
    """Runs the module as its own program."""
    offset_file, module, *arguments = sys.argv[1:]
    file = Path(offset_file)

    def time_ns(self: clock.SystemClock) -> int:
        return time.time_ns() + int(file.read_text()) * 1_000_000_000

    setattr(clock.SystemClock, "time_ns", time_ns)  # noqa: B010  what a test replaces, and no more
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
