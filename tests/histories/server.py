"""A server as a process that is killed, stopped, continued and started again on the same port."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from services.storage.server_process import environment

STORAGE: Final = ("services.storage.main",)


class Server:
    """A process with settings "NAME=VALUE", those of its backend. ``start`` is its module and what follows it."""

    def __init__(self, settings: Sequence[str], start: Sequence[str] = STORAGE) -> None:
        self.address = "127.0.0.1:0"
        self._settings = settings
        self._start = start
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it and waits until it is ready. Only from the main thread: the server ends with the thread that did.

        Raises RuntimeError when it does not come up.
        """
        settings = [*self._settings, f"server.listen=['{self.address}']", "server.die_with_parent=true"]
        words = [sys.executable, "-m", *self._start, *(word for one in settings for word in ("--set", one))]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment())
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with {self._process.wait()} before it was ready")
        (self.address,) = json.loads(line)["listen"]

    def kill(self) -> None:
        """kill -9, also of one that is stopped; nothing when it is dead already."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()

    def stop(self) -> None:
        """It runs no more, but holds its sockets and files, until it goes on."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        """After a stop."""
        self._send(signal.SIGCONT)

    def _send(self, sign: int) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the server ended by itself with {self._process.returncode}")
        self._process.send_signal(sign)
