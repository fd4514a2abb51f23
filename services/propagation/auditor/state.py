"""Small JSON files that survive a kill: each is replaced as a whole, durable before it takes the old one's place."""

import asyncio
import fcntl
import json
import logging
import os
from pathlib import Path
from typing import Any, Self

from libs.files import durable
from libs.telemetry.logs import fields

logger = logging.getLogger(__name__)

CURSOR = "cursor.json"
REPORT = "report.json"
FRESHNESS = "freshness.json"


class StateError(Exception):
    """The directory cannot be used; the text says which, why, and what to do."""


class StateDirectory:
    """The auditor's directory, one process's at a time."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock_fd = -1

    def open(self) -> Self:
        """Makes and locks it. Raises StateError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise StateError(f"path: {self.path} is another auditor's; give each its own") from None
        except OSError as error:
            raise StateError(f"path: {self.path} cannot be used: {error.strerror}") from None
        return self

    def close(self) -> None:
        """Lets go of it."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    async def write(self, name: str, value: dict[str, Any]) -> None:
        """Replaces a file. Raises OSError."""
        await asyncio.to_thread(_replace, self.path / name, value)

    def read(self, name: str) -> dict[str, Any] | None:
        """A file's object, None when there is none; a damaged one is told in the log and counts as none."""
        return read_object(self.path / name)


def read_object(file: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is no file or it holds none. Raises OSError."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        logger.error("a file of the auditor is damaged and left out of account", extra=fields(file=str(file)))
        return None
    return value


def _replace(file: Path, value: dict[str, Any]) -> None:
    durable.replace(file, json.dumps(value, ensure_ascii=False, indent=1).encode())
