"""One child process: started, awaited, paused, killed and started again, with its output kept.

The child dies when this process dies (PR_SET_PDEATHSIG, set by util-linux' `setpriv`), so that a killed test leaves no
server behind. That signal comes when the *thread* that started the child ends; children are therefore started by one
thread of this module, which lives as long as the process.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

# A loaded machine took 33 s for a server that needs 5 s when quiet; nobody waits this long unless something is wrong.
START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 120.0
_TAIL_BYTES = 4000
_ENDED = "ZX"
_STOPPED = "T" + _ENDED
_starters: dict[int, ThreadPoolExecutor] = {}


def _starter() -> ThreadPoolExecutor:
    """The one thread that starts children; one for each process id, since a fork leaves the parent's thread behind."""
    return _starters.setdefault(os.getpid(), ThreadPoolExecutor(1, thread_name_prefix="server-starter"))


class ServerError(RuntimeError):
    """A server did not start, or ended by itself; the text names it, shows the end of its log and says what to do."""


def short_directory(name: str) -> Path:
    """A new folder with a short path: a Unix socket's path ends at 107 bytes, and Bazel's test folders are longer."""
    parent = "/tmp" if os.access("/tmp", os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix=f"ws-{name}-", dir=parent))


class Process:
    """A program that runs until it is killed. Its process group is its own: pause and kill reach its children too."""

    def __init__(
        self, name: str, command: list[str], directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """`name` is used in errors; `directory` is the working folder and gets the log; `environment` replaces ours."""
        self.name = name
        self.command = command
        self.directory = directory
        self.log_path = directory / "server.log"
        self._environment = dict(environment) if environment is not None else None
        self._child: subprocess.Popen[bytes] | None = None
        self._paused = False

    @property
    def pid(self) -> int:
        """The process id; ServerError when it is not running."""
        if self._child is None or self._child.poll() is not None:
            raise ServerError(self._report("is not running"))
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process lives (a paused one does)."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Starts the program; its output is appended to the log."""
        if self.running:
            raise ServerError(f"{self.name} already runs (pid {self.pid})")
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise ServerError("'setpriv' is not on PATH (package util-linux): a server could outlive its test")
        self._paused = False
        with self.log_path.open("ab") as log:
            self._child = (
                _starter()
                .submit(
                    subprocess.Popen,
                    [setpriv, "--pdeathsig", "KILL", *self.command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.directory,
                    env=self._environment,
                    start_new_session=True,
                )
                .result()
            )

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float = START_TIMEOUT_S, every_s: float = 0.05) -> None:
        """Waits until `ready()` is true. OSError from it means "not yet". Raises ServerError at death or time-out."""
        end = time.monotonic() + timeout_s
        while True:
            if not self.running:
                raise ServerError(self._report("ended before it was ready"))
            try:
                if ready():
                    return
            except OSError:
                pass  # Not listening yet.
            if time.monotonic() > end:
                raise ServerError(self._report(f"was not ready within {timeout_s:.0f} s (is the machine overloaded?)"))
            time.sleep(every_s)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers. Returns when every process of the group has stopped."""
        self._signal(signal.SIGSTOP)
        self._paused = True
        # The signal is sent to all at once but takes effect in each by itself: one could still answer a request.
        self._wait_for_group(self.pid, _STOPPED, "did not stop within {:.0f} s of SIGSTOP")

    def resume(self) -> None:
        """SIGCONT after pause()."""
        self._signal(signal.SIGCONT)
        self._paused = False

    def kill(self) -> None:
        """SIGKILL to the process and its children, and waits for the end. Nothing happens when it is not running."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help within two minutes."""
        if self.running and self._paused:
            self.resume()
        self._end(signal.SIGTERM)

    def logs(self) -> str:
        """All output so far, of every start."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _signal(self, number: int) -> None:
        os.killpg(self.pid, number)

    def _end(self, number: int) -> None:
        child = self._child
        if child is None or child.poll() is not None:
            return
        os.killpg(child.pid, number)
        try:
            child.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        # Its children are not ours to wait for, and one that still ends may hold the port which the next start needs.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        self._wait_for_group(child.pid, _ENDED, "left processes that live {:.0f} s after it")

    def _wait_for_group(self, group: int, states: str, otherwise: str) -> None:
        end = time.monotonic() + _STOP_TIMEOUT_S
        while not _all_are(states, group):
            if time.monotonic() > end:
                raise ServerError(self._report(otherwise.format(_STOP_TIMEOUT_S)))
            time.sleep(0.002)

    def _report(self, what: str) -> str:
        code = None if self._child is None else self._child.poll()
        ended = "" if code is None else f" (exit code {code})"
        tail = self.logs()[-_TAIL_BYTES:].strip() or "(empty)"
        return f"{self.name} {what}{ended}.\nCommand: {self.command[0]} … in {self.directory}\nEnd of its log:\n{tail}"


def _all_are(states: str, group: int) -> bool:
    """Whether every thread of every process of the group is in one of these states (letters of proc(5))."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            threads = list(process.glob("task/*")) if int(_stat(process)[2]) == group else []
        except OSError:
            continue  # It ended meanwhile.
        for thread in threads:
            with suppress(OSError):  # As above.
                if _stat(thread)[0] not in states:
                    return False
    return True


def _stat(process: Path) -> list[str]:
    """The fields of /proc/…/stat after the command's name: state, parent, process group, …"""
    return (process / "stat").read_text().rpartition(")")[2].split()
