"""For tests: the real storage server as a process that is killed and started again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


def command(path: Path, listen: str, *more: str, embedded: str = "backend.embedded") -> list[str]:
    """The command line of a server on the data directory ``path``; ``embedded`` is where it stands in the
    configuration."""
    given = [f"{embedded}.path={path}", f"server.listen=['{listen}']", "server.die_with_parent=true", *more]
    return [sys.executable, "-m", "services.storage.main", *(word for one in given for word in ("--set", one))]


def environment() -> dict[str, str]:
    """That of the server: the same modules, no settings from outside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WELLSPRING")}
    return {**kept, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


class Process:
    """A server that is killed and started again on the same directory and port."""

    def __init__(self, path: Path, *settings: str, embedded: str = "backend.embedded") -> None:
        self._settings = settings
        self._embedded = embedded
        self.path = path
        self.address = "127.0.0.1:0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        self._process = subprocess.Popen(
            command(self.path, self.address, *self._settings, embedded=self._embedded),
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self._process.stdout is not None
        ready = json.loads(self._process.stdout.readline())
        (self.address,) = ready["listen"]

    def end(self, sign: int = signal.SIGKILL) -> int:
        """Ends it by a signal; answers its exit status."""
        assert self._process is not None
        self._process.send_signal(sign)
        status = self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return status
