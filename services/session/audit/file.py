"""The audit in a file: appended line by line, synced every second, moved aside when large, removed when old.

An event is in the file (in the system's memory) when `record` returns: kill -9 of the server loses none; a power cut
may lose the last second. A disk that refuses makes the server unready and is told once; what could not be written is
counted, and the number stands in the chain as a gap as soon as the disk takes writes again.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from libs.errors.errors import FailedPrecondition, Unavailable
from libs.telemetry.logs import fields
from services.session.audit import chain
from services.session.audit.chain import Place, Sign

log = logging.getLogger(__name__)

_LARGE: Final = 64 << 20
_HEAD_EVERY: Final = 1000
_HEAD_EVERY_S: Final = 60.0
_SYNC_EVERY_S: Final = 1.0
_TAIL: Final = 1 << 20


class AuditUnusable(FailedPrecondition):
    """The audit file cannot be continued."""

    default_reason = "AUDIT_UNUSABLE"


class AuditFile:
    """One writer's file. All methods belong to the event loop but for the syncing inside `run`."""

    def __init__(
        self,
        path: Path,
        writer: str,
        sign: Sign,
        *,
        kept_for_s: float,
        time_ns: Callable[[], int] = time.time_ns,
        largest: int = _LARGE,
    ) -> None:
        """Opens and continues the file, or begins it. Raises AuditUnusable."""
        self._path = path
        self._writer = writer
        self._sign = sign
        self._kept_for_s = kept_for_s
        self._time_ns = time_ns
        self._largest = largest
        self._lost = 0
        self._since_head = 1  # the opening itself, and with it all that a kill left without a head
        self._dirty = False
        self._closed = False
        # For whoever sends the entries on: up to which number they are on disk; up to which they arrived (None: nobody
        # sends). A file is kept until all of it has arrived.
        self.synced = 0
        self.arrived: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = _open(path)
            try:
                self._size, self._place, torn = _continue(self._file, path)
                self._append(self._entry(chain.OPENED, writer=writer, facts={"torn_bytes": torn} if torn else {}))
            except BaseException:
                os.close(self._file)
                raise
        except OSError as error:
            raise AuditUnusable(f"the audit file {path} cannot be written: {error.strerror}") from None

    def record(self, event: str, realm: str, handle: str, caller: str, facts: dict[str, Any]) -> None:
        """Appends an event."""
        try:
            if self._lost:
                self._append(self._entry(chain.GAP, facts={"lost": self._lost}))
                log.warning("the audit goes on", extra=fields(lost=self._lost))
                self._lost = 0
            self._append(self._entry(event, realm=realm, handle=handle, caller=caller, facts=facts))
        except OSError as error:
            if not self._lost:
                log.critical("the audit cannot be written", extra=fields(path=str(self._path), problem=error.strerror))
            self._lost += 1
            return
        self._since_head += 1
        if self._since_head >= _HEAD_EVERY:
            self.vouch()

    def vouch(self) -> None:
        """Appends a signed head, and tells it to the log, which is kept elsewhere. Nothing when nothing is new."""
        if not self._since_head:
            return
        self._since_head = 0
        place = self._place
        with contextlib.suppress(OSError):
            self._append(chain.head(place, self._time_ns(), self._writer, self._sign))
            log.info("audit head", extra=fields(writer=self._writer, number=place.number, hash=place.hash))

    async def run(self) -> None:
        """Syncs, signs heads and removes what is old, for ever."""
        waited_s = 0.0
        while True:
            await asyncio.sleep(_SYNC_EVERY_S)
            waited_s += _SYNC_EVERY_S
            if waited_s >= _HEAD_EVERY_S:
                waited_s = 0.0
                self.vouch()
                await asyncio.to_thread(self._remove_old)
            await self.sync()

    async def sync(self) -> None:
        """What was recorded is on disk when it returns; unless the disk refuses, which is told."""
        if not self._dirty:
            return
        self._dirty = False
        number = self._place.number
        try:
            await asyncio.to_thread(os.fdatasync, self._file)
            self.synced = max(self.synced, number)
        except OSError as error:
            log.critical("the audit cannot be synced", extra=fields(problem=error.strerror))
            self._dirty = True

    async def check(self) -> None:
        """Raises while the disk refuses."""
        if self._lost:
            raise Unavailable("the audit file cannot be written")

    async def close(self) -> None:
        """Signs the last head and syncs."""
        if self._closed:
            return
        self._closed = True
        self.vouch()
        with contextlib.suppress(OSError):
            os.fsync(self._file)
            self.synced = self._place.number
        os.close(self._file)

    def _entry(self, event: str, **parts: Any) -> bytes:
        return chain.entry(self._place, self._time_ns(), event, **parts)

    def _append(self, line: bytes) -> None:
        """Raises OSError, having left the file as it was."""
        if self._size and self._size + len(line) > self._largest:
            self._move_aside()
        written = 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            if written:
                os.ftruncate(self._file, self._size)
            raise
        self._size += written
        self._dirty = True
        self._place = chain.after(self._place, line)

    def _move_aside(self) -> None:
        """The chain goes on in a new file; the full one is named by the number of its last entry."""
        os.fsync(self._file)
        self.synced = self._place.number
        self._path.rename(self._path.with_name(f"{self._path.name}.{self._place.number:012}"))
        fresh = _open(self._path)
        os.close(self._file)
        self._file, self._size = fresh, 0

    def _remove_old(self) -> None:
        before_s = self._time_ns() / 1e9 - self._kept_for_s
        for path in self._path.parent.glob(f"{self._path.name}.*"):
            with contextlib.suppress(OSError):
                last = path.suffix[1:]
                if not last.isdigit() or (self.arrived is not None and int(last) > self.arrived):
                    continue
                if path.stat().st_mtime < before_s:
                    path.unlink()


def _open(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise AuditUnusable(f"the audit file {path} is another server's; each has its own") from None
    return file


def _continue(file: int, path: Path) -> tuple[int, Place, int]:
    """(size, place, bytes of a torn last line that was cut off) of the file; of the one moved aside last when it is
    empty. Raises AuditUnusable when its last line is no entry."""
    size = os.fstat(file).st_size
    tail = os.pread(file, _TAIL, max(0, size - _TAIL))
    whole = tail[: tail.rfind(b"\n") + 1]
    torn = len(tail) - len(whole)
    if torn:
        os.ftruncate(file, size - torn)
        size -= torn
    if not size:
        earlier = sorted(path.parent.glob(f"{path.name}.*[0-9]"))
        if not earlier:
            return 0, Place(), torn
        lines = earlier[-1].read_bytes()[-_TAIL:]
        return 0, _last(lines, earlier[-1]), torn
    return size, _last(whole, path), torn


def _last(lines: bytes, path: Path) -> Place:
    line = lines.rstrip(b"\n").rpartition(b"\n")[2]
    try:
        number = chain.parse(line)["n"]
    except ValueError:
        raise AuditUnusable(f"{path} does not end with an entry of an audit; move it away to begin anew") from None
    return chain.after(Place(number - 1), line)
