"""The data directory of a platform: one platform at a time, of one format, and where that platform listens.

<data>/platform.json    what this is: {"magic", "format", "ports", "pid"}; written anew at each start
<data>/platform.lock    held (flock) by the process that runs the platform
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

MAGIC: Final = "wellspring-platform"
FORMAT: Final = 1
_DESCRIPTION = "platform.json"
_LOCK = "platform.lock"


class DataDirectoryError(Exception):
    """The directory cannot be used; the text says why and what to do."""


def default_path() -> Path:
    """Where data goes unless one says otherwise: $XDG_DATA_HOME/wellspring, ~/.local/share/wellspring."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "wellspring"


@dataclass(frozen=True, slots=True)
class Description:
    """What a data directory says of the platform that ran in it last: ports by process, the process that ran it."""

    ports: Mapping[str, int]
    pid: int


class DataDirectory:
    """A platform's directory, held by this process from `__enter__` to `__exit__`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd = -1

    def describe(self, ports: Mapping[str, int]) -> None:
        """Writes down where the platform listens, for commands that look for it."""
        text = json.dumps({"magic": MAGIC, "format": FORMAT, "ports": dict(ports), "pid": os.getpid()}, indent=1)
        new = self.path / f"{_DESCRIPTION}.new"
        new.write_text(text + "\n", encoding="utf-8")
        new.replace(self.path / _DESCRIPTION)

    def __enter__(self) -> Self:
        """Makes and locks the directory. Raises DataDirectoryError; a foreign directory is left as it is."""
        path = self.path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            _check(path)
            self._lock_fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirectoryError(
                f"the data directory {path} cannot be used: {error.strerror}; name another with --data"
            ) from None
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock_fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            self.__exit__(None, None, None)
            raise DataDirectoryError(
                f"the data directory {path} is in use by the platform of process {holder}: stop that one (Ctrl-C or "
                f"kill {holder}), or name another directory with --data"
            ) from None
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def read(path: Path) -> Description | None:
    """What the directory says; None when no platform ran there. Raises DataDirectoryError for what is not ours."""
    described = _described(path)
    if described is None:
        return None
    ports = {str(name): int(port) for name, port in described.get("ports", {}).items()}
    return Description(ports, int(described.get("pid", 0)))


def is_held(path: Path) -> bool:
    """Whether a platform runs in the directory now."""
    try:
        fd = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _described(path: Path) -> dict[str, Any] | None:
    file = path / _DESCRIPTION
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        text = ""
    try:
        described = json.loads(text)
    except ValueError:
        described = None
    if not isinstance(described, dict) or described.get("magic") != MAGIC:
        raise DataDirectoryError(f"{file} is not of Wellspring, or damaged: name another directory with --data")
    if described.get("format") != FORMAT:
        raise DataDirectoryError(
            f"the data directory {path} has format {described.get('format')!r}, this release reads format {FORMAT}: "
            "use the release that wrote it, or name another directory with --data"
        )
    return described


def _check(path: Path) -> None:
    """Refuses a directory that holds somebody else's files."""
    if _described(path) is None:
        others = sorted(entry.name for entry in path.iterdir() if entry.name not in (_LOCK, f"{_DESCRIPTION}.new"))
        if others:
            raise DataDirectoryError(
                f"{path} is not empty ({others[0]}{', …' if len(others) > 1 else ''}) and not a data directory of "
                "Wellspring: name an empty or a new directory with --data"
            )
