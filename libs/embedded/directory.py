"""The data directory: who holds it, what it contains, and whether this release may open it.

FORMAT     JSON: whose data this is and in which version; written once, before any data
LOCK.pid   held with flock by the process that has the directory open, and naming it
DURABLE    the durable watermark (watermark.py)
db/        the RocksDB database
unverified/  hard links to write-ahead logs of an unclean stop, until recovery has been checked
"""

import fcntl
import json
import os
from collections.abc import Collection
from pathlib import Path

from libs.embedded.failures import (
    DirectoryInUse,
    StoreUnavailable,
    WrongDirectory,
    translate,
)
from libs.files import durable

_FORMAT = "FORMAT"
_LOCK = "LOCK.pid"
_MAGIC = "wellspring-data"
_LAYOUT = 1
_OURS_BEFORE_FORMAT = {_LOCK, _FORMAT + ".new"}


class DataDirectory:
    """A locked data directory. Create it by :meth:`acquire`; the lock ends with :meth:`release` or with the process."""

    def __init__(self, path: Path, lock_fd: int, schema: str, version: int) -> None:
        self.path = path
        self.schema = schema
        self.version = version
        self._lock_fd = lock_fd

    @property
    def database(self) -> Path:
        """Where RocksDB keeps its files."""
        return self.path / "db"

    @property
    def watermark(self) -> Path:
        """The file of the durable watermark."""
        return self.path / "DURABLE"

    @property
    def unverified(self) -> Path:
        """Where logs of an unclean stop are kept until recovery has been checked."""
        return self.path / "unverified"

    @classmethod
    def acquire(cls, path: Path, *, schema: str, version: int, oldest: int | None = None) -> "DataDirectory":
        """Create or open ``path`` for data of the service ``schema`` in ``version`` and lock it. Data of a version from
        ``oldest`` on (None: ``version`` alone) is that of ``version`` from then on.

        Raises DirectoryInUse (naming the process), WrongDirectory (saying what is there and what is allowed),
        StoreUnavailable (not a directory, not writable) or DiskFull. Nothing is left behind when it raises, except an
        empty directory.
        """
        _make(path)
        if not (path / _FORMAT).exists():
            refuse_strangers(path, schema=schema, ours=_OURS_BEFORE_FORMAT)
        lock_fd = _lock(path)
        try:
            _check_format(path, schema, version, version if oldest is None else oldest)
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(path, lock_fd, schema, version)

    def release(self) -> None:
        """Give the directory back. Harmless when called twice."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def refuse_strangers(path: Path, *, schema: str, ours: Collection[str]) -> None:
    """Raises WrongDirectory when ``path`` holds another service's data, or any entry but ``ours``. Changes nothing; a
    path that is not there, or is no directory, passes.
    """
    if not path.is_dir():
        return
    if (path / _FORMAT).is_file():
        _check_schema(path, _described(path), schema)
    strangers = sorted(entry.name for entry in path.iterdir() if entry.name not in ours)
    if strangers:
        raise WrongDirectory(
            f"{path} is not empty ({', '.join(strangers[:3])}{', …' if len(strangers) > 3 else ''})"
            " and not a Wellspring data directory of this service; configure an empty or a new directory",
            metadata={"path": str(path)},
        )


def write_format(path: Path, *, schema: str, version: int) -> None:
    """Write the FORMAT file of the directory ``path``, durably and all or nothing. Raises OSError."""
    text = (
        json.dumps(
            {"magic": _MAGIC, "layout": _LAYOUT, "schema": schema, "version": version},
            indent=1,
        )
        + "\n"
    )
    durable.replace(path / _FORMAT, text.encode(), mode=0o644)


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError):
        raise StoreUnavailable(f"{path} cannot be a data directory: it, or a part of its path, is a file") from None
    except OSError as error:
        raise translate(error, f"creating the data directory {path}") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise StoreUnavailable(
            f"the data directory {path} is not readable and writable for the user of this process (uid {os.getuid()});"
            " change its owner or mode, or configure another path"
        )


def _lock(path: Path) -> int:
    try:
        fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise translate(error, f"locking the data directory {path}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 64, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise DirectoryInUse(
            f"the data directory {path} is in use by process {holder};"
            " stop that process or configure another directory: one directory serves one process",
            metadata={"path": str(path), "pid": holder},
        ) from None
    except OSError as error:
        os.close(fd)
        raise translate(error, f"locking the data directory {path}") from error
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(fd)
        raise translate(error, f"locking the data directory {path}") from error
    return fd


def _check_format(path: Path, schema: str, version: int, oldest: int) -> None:
    if not (path / _FORMAT).exists():
        _create_format(path, schema, version)
        return
    found = _described(path)
    _check_schema(path, found, schema)
    there = found["version"]
    assert isinstance(there, int)  # as parsed
    if found["layout"] != _LAYOUT or not oldest <= there <= version:
        allowed = str(version) if oldest == version else f"{oldest} to {version}"
        raise WrongDirectory(
            f"{path} holds data in version {there} (layout {found['layout']}); this release reads"
            f" version {allowed} (layout {_LAYOUT}) only: run the release that wrote it, or configure a new directory",
            metadata={"path": str(path), "found": str(there), "allowed": allowed},
        )
    if there < version:
        _describe(path, schema, version, "taking over")


def _described(path: Path) -> dict[str, object]:
    try:
        text = (path / _FORMAT).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongDirectory(f"{path / _FORMAT} cannot be read; restore it from a backup of the directory") from error
    return _parse(text, path / _FORMAT)


def _check_schema(path: Path, found: dict[str, object], schema: str) -> None:
    if found["schema"] != schema:
        raise WrongDirectory(
            f"{path} holds data of the service {found['schema']!r}; this is the service {schema!r}:"
            " configure a directory of its own",
            metadata={
                "path": str(path),
                "found": str(found["schema"]),
                "allowed": schema,
            },
        )


def _parse(text: str, file: Path) -> dict[str, object]:
    damaged = WrongDirectory(
        f"{file} is damaged: it is not the description that Wellspring wrote; restore it from a backup"
    )
    try:
        found = json.loads(text)
    except ValueError:
        raise damaged from None
    if not isinstance(found, dict) or found.get("magic") != _MAGIC:
        raise damaged
    if not isinstance(found.get("schema"), str) or not all(type(found.get(k)) is int for k in ("layout", "version")):
        raise damaged
    return found


def _create_format(path: Path, schema: str, version: int) -> None:
    refuse_strangers(path, schema=schema, ours=_OURS_BEFORE_FORMAT)
    _describe(path, schema, version, "creating")


def _describe(path: Path, schema: str, version: int, doing: str) -> None:
    try:
        write_format(path, schema=schema, version=version)
    except OSError as error:
        raise translate(error, f"{doing} the data directory {path}") from error
