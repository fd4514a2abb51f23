"""All processes of a one-machine deployment: started in order, watched, restarted when they die, drained in order."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from tools.dev.servers.process import Process, ServerError
from tools.platform import health, ports
from tools.platform.layout import MODULES, Layout

START_TIMEOUT_S: Final = 120.0
RESTART_FIRST_S: Final = 0.5
RESTART_MOST_S: Final = 30.0
STEADY_S: Final = 30.0
"""A process that lived so long has started well: the next restart of it does not wait long."""
LOG_KEPT_BYTES: Final = 64 * 1024 * 1024
"""A log that is longer is put aside (one earlier file is kept) when its process starts."""
_WATCH_EVERY_S: Final = 0.1


class PlatformError(Exception):
    """The platform cannot start; the text is one sentence for the user, with what to do."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a process: "started", "ready", "died", "stopped"."""

    process: str
    what: str
    detail: str = ""


class Platform:
    """The processes of a layout. Use it as a context manager, or call `start` and `stop`.

    `restart` says whether a process that dies is started again (with a growing pause); `tell` hears of every event, on
    the caller's thread or one of the platform's. No process outlives the one that made the Platform.
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
        self._due: dict[str, float] = {}
        self._unready: set[str] = set()
        self._expected_down: set[str] = set()
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        """Starts everything and waits until all of it is healthy. Raises PlatformError; nothing is left running then.

        A port that is taken is noticed before anything starts or is written.
        """
        if taken := ports.first_taken(self.layout.ports):
            raise PlatformError(
                f"port {taken[1]}, meant for {taken[0]}, is in use by another process: end that process, or choose "
                "other ports with --port-base (0 takes free ones)"
            )
        self._stopping.clear()
        self.layout.write()
        try:
            for name in self._processes:
                self._start(name)
            for name in self._processes:
                self._await(name)
        except BaseException:
            self.stop()
            raise
        if self._restart:
            self._watcher = threading.Thread(target=self._watch, name="platform-watch", daemon=True)
            self._watcher.start()

    def stop(self) -> None:
        """Drains everything, the callers before those they call. Harmless when nothing runs."""
        self._stop_watching()
        for name in reversed(self._processes):
            process = self._processes[name]
            if process.running:
                process.stop()
                self._tell(Event(name, "stopped"))

    def kill_all(self) -> None:
        """SIGKILL to everything, for who cannot wait: what was acknowledged is on disk all the same."""
        self._stopping.set()
        for process in self._processes.values():
            process.kill()

    def kill(self, name: str, *, stay_down: bool = True) -> None:
        """SIGKILL, for tests; the process stays down until `revive`, or is restarted by the watch."""
        with self._lock:
            if stay_down:
                self._expected_down.add(name)
            self._processes[name].kill()

    def revive(self, name: str, *, wait: bool = True) -> None:
        """Starts a killed process again. Raises PlatformError when it does not become healthy."""
        with self._lock:
            self._due.pop(name, None)
            self._start(name)
            self._expected_down.discard(name)
        if wait:
            self._await(name)

    def restart(self, name: str) -> None:
        """Drains one process and starts it again, as for a new configuration. Raises PlatformError."""
        with self._lock:
            self._expected_down.add(name)
        self._processes[name].stop()
        self.revive(name)

    def pause(self, name: str) -> None:
        """SIGSTOP, for tests."""
        self._processes[name].pause()

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._processes[name].resume()

    def pid(self, name: str) -> int:
        """The process id. Raises ServerError when it is down."""
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
        # -P: the working folder is no place for modules. -S: as this interpreter was started, so are its children.
        flags = ["-P", "-S"] if sys.flags.no_site else ["-P"]
        module = MODULES[name.partition("-")[0]]
        command = [sys.executable, *flags, "-m", module, "--config", str(self.layout.config_file(name))]
        # The same modules as this process has, whether they come from runfiles, a bundle or a checkout.
        paths = [os.path.abspath(path) for path in sys.path if path]
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
        }
        return Process(name, command, self.layout.log_directory(name), environment)

    def _start(self, name: str) -> None:
        self.layout.ready_file(name).unlink(missing_ok=True)
        _put_aside(self._processes[name])
        try:
            self._processes[name].start()
        except ServerError as error:
            raise PlatformError(str(error)) from None
        self._began[name] = time.monotonic()
        self._unready.add(name)
        self._tell(Event(name, "started"))

    def _await(self, name: str) -> None:
        process = self._processes[name]
        try:
            process.wait_ready(lambda: self._healthy(name), START_TIMEOUT_S)
        except ServerError as error:
            raise PlatformError(_first_words(name, process, str(error))) from None
        self._say_ready(name)

    def _healthy(self, name: str) -> bool:
        return self.layout.ready_file(name).exists() and health.check(self.layout.address(name)) == health.SERVING

    def _say_ready(self, name: str) -> None:
        if name in self._unready:
            self._unready.discard(name)
            self._tell(Event(name, "ready"))

    def _stop_watching(self) -> None:
        self._stopping.set()
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join()
            self._watcher = None

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_EVERY_S):
            for name in self._processes:
                with self._lock:
                    if name not in self._expected_down and not self._stopping.is_set():
                        self._look_after(name)

    def _look_after(self, name: str) -> None:
        """Once around for one process: notes that it died, starts it when its pause is over, says that it is ready."""
        now = time.monotonic()
        if self._processes[name].running:
            if name in self._unready and self.layout.ready_file(name).exists():
                self._say_ready(name)
        elif name not in self._due:
            lived = now - self._began[name]
            pause = RESTART_FIRST_S if lived > STEADY_S else min(RESTART_MOST_S, 2 * self._pause.get(name, 0.25))
            self._pause[name] = pause
            self._due[name] = now + pause
            words = _first_words(name, self._processes[name], "") if name in self._unready else ""
            self._tell(Event(name, "died", f"after {lived:.0f} s; starts again in {pause:g} s {words}".rstrip()))
        elif now >= self._due[name]:
            del self._due[name]
            self._start(name)


def _put_aside(process: Process) -> None:
    log = process.log_path
    if log.exists() and log.stat().st_size > LOG_KEPT_BYTES:
        log.replace(log.with_suffix(".1.log"))


def _first_words(name: str, process: Process, report: str) -> str:
    """What a process said of why it did not start, in its own words where it has some."""
    lines = [line for line in process.logs().splitlines() if line and not line.startswith("{")]
    if lines:
        return lines[-1] if lines[-1].startswith(name) else f"{name}: {lines[-1]}"
    return report
