"""Follows log files while others write them: line by line, several at once."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

EVERY_S: Final = 0.1
LONGEST_LINE_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 1 << 20


class LogFollower:
    """Hands on each whole line that is added to `files` (by name) from now on, on a thread of its own.

    A file may come later, and may be replaced by a shorter one. `stop` hands on what is there, then ends.
    """

    def __init__(self, files: Mapping[str, Path], on_line: Callable[[str, str], None]) -> None:
        self._files = dict(files)
        self._on_line = on_line
        self._offsets = {name: _size(path) for name, path in files.items()}
        self._rests = dict.fromkeys(files, b"")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="log-follower", daemon=True)

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the lines that are there. Harmless when it never started."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        while not self._stopping.wait(EVERY_S):
            self._look()
        self._look()

    def _look(self) -> None:
        for name, path in self._files.items():
            if _size(path) < self._offsets[name]:
                self._offsets[name], self._rests[name] = 0, b""
            while data := _read(path, self._offsets[name]):
                self._offsets[name] += len(data)
                *lines, rest = (self._rests[name] + data).split(b"\n")
                self._rests[name] = rest[-LONGEST_LINE_BYTES:]
                for line in lines:
                    self._on_line(name, line[:LONGEST_LINE_BYTES].decode(errors="replace"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(_READ_BYTES)
    except FileNotFoundError:
        return b""
