"""All processes of a one-machine deployment: started in order, watched, restarted when they die, drained in order."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from tools.dev.servers.process import Process, ServerError
from tools.platform.layout import MODULES, Layout

START_TIMEOUT_S: Final = 120.0
RESTART_FIRST_S: Final = 0.5
RESTART_MOST_S: Final = 30.0
STEADY_S: Final = 30.0
"""A process that lived so long has started well: the next restart of it does not wait long."""

EXIT_CONFIG: Final = 78


class PlatformError(Exception):
    """The platform cannot start; the text is one sentence for the user, with what to do."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a process: "started", "ready", "died", "restarting", "stopped"."""

    process: str
    what: str
    detail: str = ""


class Platform:
    """The processes of a layout. Use it as a context manager, or call `start` and `stop`.

    `restart` says whether a process that dies is started again (with a growing pause); `tell` hears of every event, on
    a thread of the platform's.
    """

    def __init__(
        self, layout: Layout, *, restart: bool = True, tell: Callable[[Event], None] = lambda event: None
    ) -> None:
        self.layout = layout
        self._restart = restart
        self._tell = tell
        self._processes = {name: self._process(name) for name in layout.processes}
        self._began: dict[str, float] = {}
        self._pause: dict[str, float] = {}
        self._expected_down: set[str] = set()
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        """Starts everything and waits until it is ready. Raises PlatformError; nothing is left running then."""
        self._check_ports()
        self.layout.write()
        try:
            for name in self._processes:
                self._start(name)
            self._await(list(self._processes))
        except BaseException:
            self.stop()
            raise
        if self._restart:
            self._watcher = threading.Thread(target=self._watch, name="platform-watch", daemon=True)
            self._watcher.start()

    def stop(self) -> None:
        """Drains everything, the callers before those they call."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        for name in reversed(self._processes):
            process = self._processes[name]
            if process.running:
                process.stop()
                self._tell(Event(name, "stopped"))

    def kill(self, name: str) -> None:
        """SIGKILL, for tests; the process stays down until `revive`."""
        with self._lock:
            self._expected_down.add(name)
            self._processes[name].kill()

    def revive(self, name: str, *, wait: bool = True) -> None:
        """Starts a killed process again."""
        with self._lock:
            self._start(name)
            self._expected_down.discard(name)
        if wait:
            self._await([name])

    def pause(self, name: str) -> None:
        """SIGSTOP, for tests."""
        self._processes[name].pause()

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._processes[name].resume()

    def pid(self, name: str) -> int:
        """The process id."""
        return self._processes[name].pid

    def running(self, name: str) -> bool:
        """Whether the process lives."""
        return self._processes[name].running

    def logs(self, name: str) -> str:
        """All that a process has logged."""
        return self._processes[name].logs()

    def ready_line(self, name: str) -> dict[str, Any]:
        """What a process said when it was ready: addresses and pid."""
        line: dict[str, Any] = json.loads(self.layout.ready_file(name).read_text(encoding="utf-8"))
        return line

    @property
    def addresses(self) -> dict[str, str]:
        """host:port by process, and "http" for readers."""
        return {name: f"127.0.0.1:{port}" for name, port in self.layout.ports.items()}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _process(self, name: str) -> Process:
        module = MODULES[name.partition("-")[0]]
        command = [sys.executable, "-m", module, "--config", str(self.layout.config_file(name))]
        # The same modules as this process has, whether they come from runfiles, a bundle or a checkout.
        paths = [os.path.abspath(path) for path in sys.path if path]
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return Process(name, command, self.layout.log_directory(name), environment)

    def _start(self, name: str) -> None:
        self.layout.ready_file(name).unlink(missing_ok=True)
        self._processes[name].start()
        self._began[name] = time.monotonic()
        self._tell(Event(name, "started"))

    def _await(self, names: list[str]) -> None:
        for name in names:
            process = self._processes[name]
            try:
                process.wait_ready(self.layout.ready_file(name).exists, START_TIMEOUT_S)
            except ServerError as error:
                raise PlatformError(_first_words(name, process, str(error))) from None
            self._tell(Event(name, "ready"))

    def _watch(self) -> None:
        while not self._stopping.wait(0.2):
            for name in self._processes:
                with self._lock:
                    process = self._processes[name]
                    if process.running or name in self._expected_down or self._stopping.is_set():
                        continue
                    self._revive_after_pause(name)

    def _revive_after_pause(self, name: str) -> None:
        lived = time.monotonic() - self._began[name]
        pause = RESTART_FIRST_S if lived > STEADY_S else min(RESTART_MOST_S, 2 * self._pause.get(name, 0.25))
        self._pause[name] = pause
        self._tell(Event(name, "died", f"after {lived:.0f} s; starts again in {pause:g} s"))
        if not self._stopping.wait(pause):
            self._start(name)

    def _check_ports(self) -> None:
        for name, port in sorted(self._ports()):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    raise PlatformError(
                        f"port {port} ({name}) is in use by another process: end it, or choose other ports with "
                        "--port-base"
                    ) from None

    def _ports(self) -> Iterator[tuple[str, int]]:
        for name, port in self.layout.ports.items():
            yield name, port
            if name != "http":
                yield f"{name} metrics", port + 100


def _first_words(name: str, process: Process, report: str) -> str:
    """What a process said of why it did not start, in its own words where it has some."""
    lines = [line for line in process.logs().splitlines() if line and not line.startswith("{")]
    if lines:
        return lines[-1] if lines[-1].startswith(name) else f"{name}: {lines[-1]}"
    return report
