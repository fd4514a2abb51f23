"""The session server as a process of its own, over an embedded store in a test's folder unless another is said."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


class Process:
    """`path` holds data, keyring and log; `settings` are more of the configuration, as ``--set`` takes them, `backend`
    its backend."""

    def __init__(self, path: Path, *settings: str, backend: str = "") -> None:
        self.path = path
        given = [
            "server={listen: ['127.0.0.1:0'], drain_wait: 0s}",
            f"backend={backend}" if backend else f"backend={{embedded: {{path: {path / 'data'}, reserve_bytes: 0}}}}",
            f"keyring_file={path / 'keyring.json'}",
            "create_keyring=true",
            "sweep_interval=50ms",
            "realms=[{name: web, max_sessions_per_subject: 0}]",
            *settings,
        ]
        self.command = [sys.executable, "-m", "services.session.main", *(a for s in given for a in ("--set", s))]
        self.address = ""
        self.ready: dict[str, Any] = {}
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Waits until it listens; `address` says where, `ready` all that it says then."""
        with open(self.path / "log", "ab") as log:
            self._running = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log, env=_environment())
        assert self._running.stdout is not None
        line = self._running.stdout.readline()
        assert line, (self.path / "log").read_text()
        self.ready = json.loads(line)
        self.address = self.ready["listen"][0]

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._running is not None
        return self._running.pid

    def kill(self, how: int = signal.SIGKILL) -> int:
        """Ends it by a signal; its exit status."""
        running = self._running
        assert running is not None and running.stdout is not None
        running.send_signal(how)
        running.stdout.close()
        return running.wait(60)

    def fails(self) -> tuple[int, str]:
        """Exit status and words of a start that must not succeed."""
        done = subprocess.run(
            self.command, capture_output=True, text=True, env=_environment(), timeout=120, check=False
        )
        return done.returncode, done.stderr


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
