"""The folder of snapshots, exports and imports: files that are there whole or not at all.

snapshots/NAME.export     what SnapshotNamespace made
exports/ID.export         what an export reads from, until an hour after its last read
*.partial                 being written, and locked by the process that does; removed at a start when nobody holds it
"""

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from libs.embedded.failures import translate
from libs.embedded.space import Reserve
from libs.errors.errors import InvalidArgument
from libs.files import durable
from services.storage.backup import format as formats
from services.storage.domain.errors import ChecksumMismatch, SnapshotExists, SnapshotNotFound

_BUFFER: Final = 1024 * 1024
_SUFFIX: Final = ".export"
_PARTIAL: Final = ".partial"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_HEAD_BYTES: Final = 16 * 1024
"""Read of a file at a time to find its header: settings may have a thousand callers, but few do."""

_T = TypeVar("_T")


def check_snapshot_name(name: str, path: str) -> None:
    """Raises InvalidArgument when ``name`` cannot be a snapshot's."""
    if _NAME.fullmatch(name) is None:
        what = f"is {name[:80]!r}; 1 to 128 of a-z, 0-9, ., - and _ are allowed, beginning with a letter or a digit"
        raise InvalidArgument.field(path, what)


class Draft:
    """A file being written: nobody sees it before :meth:`keep`."""

    def __init__(self, path: Path, reserve: Reserve) -> None:
        """Creates and locks it. Raises OSError."""
        self.path = path
        self.written = 0
        self._reserve = reserve
        self._buffer = bytearray()
        self._file: BinaryIO = path.open("xb", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    async def write(self, data: bytes) -> None:
        """Adds ``data``; it reaches the file by the MiB. Raises DiskFull, StoreUnavailable."""
        self._buffer += data
        if len(self._buffer) >= _BUFFER:
            await self.flush()

    async def flush(self) -> None:
        """Writes what is buffered; ``written`` counts it then."""
        data, self._buffer = bytes(self._buffer), bytearray()
        await _in_thread(lambda: self._write(data), f"writing to {self.path.parent}")

    async def keep(self, name: str) -> Path:
        """Makes it durable as the file ``name`` of its folder. Raises SnapshotExists when there is one."""
        await self.flush()
        path = self.path.parent / (name + _SUFFIX)
        try:
            await _in_thread(lambda: self._keep(path), f"writing to {self.path.parent}")
        except FileExistsError:
            raise SnapshotExists(f"there is a snapshot {name!r} already; delete it, or take another name") from None
        return path

    def discard(self) -> None:
        """Removes what was not kept. Harmless afterwards and twice."""
        if not self._file.closed:
            self.path.unlink(missing_ok=True)
            self._file.close()

    def _write(self, data: bytes) -> None:
        self._reserve.check(len(data))
        view = memoryview(data)
        while view:
            done = self._file.write(view)
            view = view[done or 0 :]
        self.written += len(data)

    def _keep(self, path: Path) -> None:
        os.fsync(self._file.fileno())
        os.link(self.path, path)
        self.path.unlink()
        durable.sync_directory(path.parent)
        self._file.close()


class Folder:
    """The folder ``path``; ``reserve_bytes`` of its disk are left free."""

    def __init__(self, path: Path, reserve_bytes: int) -> None:
        self.path = path
        self._snapshots = path / "snapshots"
        self._exports = path / "exports"
        self._reserve = Reserve(path, reserve_bytes)

    async def prepare(self) -> None:
        """Makes the folder, and removes what a crash left. Raises StoreUnavailable."""
        await _in_thread(self._prepare, f"preparing {self.path}")

    async def draft_snapshot(self) -> Draft:
        """A new file that may become a snapshot."""
        return await self._draft(self._snapshots)

    async def draft_export(self) -> Draft:
        """A new file that may become an export, or holds an import while it arrives."""
        return await self._draft(self._exports)

    async def snapshot(self, name: str) -> Path:
        """The file of a snapshot. Raises SnapshotNotFound."""
        path = self._snapshots / (name + _SUFFIX)
        if not await asyncio.to_thread(path.is_file):
            raise SnapshotNotFound(f"there is no snapshot {name!r}; ListSnapshots names those there are")
        return path

    async def snapshots(self) -> list[str]:
        """Their names, in order."""
        found = await _in_thread(lambda: list(self._snapshots.glob("*" + _SUFFIX)), f"listing {self._snapshots}")
        return sorted(path.name.removesuffix(_SUFFIX) for path in found)

    async def delete_snapshot(self, name: str) -> None:
        """Removes a snapshot. Raises SnapshotNotFound."""
        path = await self.snapshot(name)

        def delete() -> None:
            path.unlink(missing_ok=True)
            durable.sync_directory(path.parent)

        await _in_thread(delete, f"deleting in {self._snapshots}")

    def export(self, name: str) -> Path:
        """Where the file of an export lies, if it is there."""
        return self._exports / (name + _SUFFIX)

    async def expire_exports(self, before_s: float) -> None:
        """Removes exports that were last read before ``before_s`` (seconds since 1970)."""

        def expire() -> None:
            for path in self._exports.glob("*" + _SUFFIX):
                if path.stat().st_mtime < before_s:
                    path.unlink()

        await _in_thread(expire, f"removing old exports in {self._exports}")

    async def _draft(self, folder: Path) -> Draft:
        path = folder / (secrets.token_hex(12) + _PARTIAL)
        return await _in_thread(lambda: Draft(path, self._reserve), f"writing to {folder}")

    def _prepare(self) -> None:
        for folder in (self._snapshots, self._exports):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in folder.glob("*" + _PARTIAL):
                with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


async def pieces(path: Path) -> AsyncIterator[bytes]:
    """The bytes of a file, by the MiB. Raises StoreUnavailable."""
    file = await _in_thread(lambda: path.open("rb", buffering=0), f"reading {path.parent}")
    with file:
        while piece := await _in_thread(lambda: file.read(_BUFFER), f"reading {path.parent}"):
            yield piece


class Opened:
    """A file that may still grow, read from any place."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    @classmethod
    async def first_of(cls, *paths: Path) -> "Opened | None":
        """The first of ``paths`` that is there, None when none is. Raises StoreUnavailable."""

        def open_() -> BinaryIO | None:
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    return path.open("rb", buffering=0)
            return None

        file = await _in_thread(open_, "opening an export")
        return None if file is None else cls(file)

    async def read(self, offset: int, most: int) -> bytes:
        """At most ``most`` bytes, and at most 1 MiB, from ``offset`` on; nothing at the end. Raises
        StoreUnavailable."""
        size = min(most, _BUFFER)
        return await _in_thread(lambda: os.pread(self._file.fileno(), size, offset), "reading an export")

    async def size(self) -> int:
        """Its bytes now."""
        return await _in_thread(lambda: os.fstat(self._file.fileno()).st_size, "reading an export")

    def close(self) -> None:
        """Lets it go."""
        self._file.close()


async def describe(path: Path) -> tuple[formats.Header, formats.End]:
    """What the file says first and last; what lies between is not looked at. Raises ChecksumMismatch, ExportInvalid,
    SnapshotNotFound."""

    def read() -> tuple[formats.Frame | None, bytes] | None:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            frames, size = formats.Frames(), 0
            first: formats.Frame | None = None
            while first is None and size < formats.MAX_FRAME and (head := file.read(_HEAD_BYTES)):
                first = next(frames.feed(head), None)
                size += len(head)
            file.seek(max(0, file.seek(0, os.SEEK_END) - formats.END_SIZE))
            return first, file.read()
        return None

    found = await _in_thread(read, f"reading {path.parent}")
    if found is None:
        raise SnapshotNotFound("the snapshot was deleted just now")
    first, tail = found
    end = formats.read_end(tail)
    if first is None or first.kind is not formats.Kind.HEADER:
        raise ChecksumMismatch("the file does not begin as an export does")
    return formats.decode_header(first.payload), end


async def touch(path: Path, now_s: float) -> None:
    """Notes that a file was read at ``now_s``."""
    with contextlib.suppress(FileNotFoundError):
        await asyncio.to_thread(os.utime, path, (now_s, now_s))


async def _in_thread(work: Callable[[], _T], doing: str) -> _T:
    """What ``work`` answers, beside the event loop. Raises DiskFull, StoreUnavailable; FileExistsError passes."""
    try:
        return await asyncio.to_thread(work)
    except FileExistsError:
        raise
    except OSError as error:
        raise translate(error, doing) from error
