"""What all servers have in common: a context manager over one or more processes and their data folder."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.dev.servers.process import START_TIMEOUT_S, Process, short_directory


class Server:
    """A server, or a cluster of them, that lives for a `with` block. Subclasses fill `processes` and `wait_ready`.

    `start_seconds` is the wall time from the first process' start until the server answered. `kill`, `pause`, `resume`
    and `restart` act on all its processes; a cluster's nodes have the same methods for one of them. The data folder is
    removed at the end; when the block ends with an exception inside a Bazel test, its undeclared outputs keep the logs.
    """

    name = "server"

    def __init__(self, timeout_s: float = START_TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self.start_seconds = 0.0
        self.directory = short_directory(self.name)
        self.processes: list[Process] = []

    def prepare(self) -> None:
        """What has to be done once, before the first start."""

    def wait_ready(self) -> None:
        """Returns when the server answers its clients; raises ServerError."""
        raise AssertionError(f"{type(self).__name__} has no wait_ready")

    def __enter__(self) -> Self:
        begin = time.monotonic()
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close(failed=True)
            raise
        self.start_seconds = time.monotonic() - begin
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=kind is not None)

    def start(self) -> None:
        """Starts every process that is not running, and waits until the server answers."""
        for process in self.processes:
            if not process.running:
                process.start()
        self.wait_ready()

    def kill(self) -> None:
        """kill -9, the data stays."""
        for process in self.processes:
            process.kill()

    def pause(self) -> None:
        """SIGSTOP: the server hangs, its connections stay open."""
        for process in self.processes:
            process.pause()

    def resume(self) -> None:
        """SIGCONT after pause()."""
        for process in self.processes:
            process.resume()

    def restart(self) -> None:
        """Kills what still runs (kill -9) and starts again on the same data and addresses."""
        self.kill()
        self.start()

    def logs(self) -> str:
        """All output of all processes so far."""
        return "\n".join(f"--- {p.name}\n{p.logs()}" if len(self.processes) > 1 else p.logs() for p in self.processes)

    def close(self, failed: bool = False) -> None:
        """Ends the processes and removes the data."""
        self.kill()
        outputs = os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR")
        if failed and outputs:
            for process in self.processes:
                if process.log_path.exists():
                    shutil.copy(process.log_path, Path(outputs, f"{process.name.replace(' ', '-')}.log"))
        shutil.rmtree(self.directory, ignore_errors=True)
