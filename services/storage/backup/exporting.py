"""Exports: a copy of the namespace is written into a file, and callers read from it while it grows and afterwards.

So a caller who is slow, or breaks off and comes back, holds nothing in the database, and always reads the same copy.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from libs.clock.clock import Clock
from libs.errors.errors import Internal, WellspringError
from libs.telemetry.logs import fields
from services.storage.backup.folder import Draft, Folder, Opened, touch
from services.storage.backup.format import END_SIZE, read_end
from services.storage.backup.writing import write_copy
from services.storage.domain.errors import ChecksumMismatch, OperationsExhausted, ResumeTokenExpired
from services.storage.domain.namespace import Namespace
from services.storage.store.interface import Store

_log = logging.getLogger(__name__)

KEPT_S: Final = 3600.0
"""After the last read."""
_AT_ONCE: Final = 4
_CARE_S: Final = 60.0
_LOOK_S: Final = 1.0
_TOUCH_BYTES: Final = 64 * 1024 * 1024


class Piece(NamedTuple):
    """The bytes of an export before ``offset``; the last one has no bytes, and the checksum of all."""

    data: bytes
    offset: int
    sha256: bytes = b""


class _Writing:
    """An export that is being written."""

    def __init__(self, name: str, namespace: Namespace, draft: Draft) -> None:
        self.name = name
        self.namespace = namespace
        self.draft = draft
        self.error: WellspringError | None = None


class Exports:
    """The exports of one server. ``run`` is background work."""

    def __init__(self, store: Store, folder: Folder, clock: Clock) -> None:
        self._store = store
        self._folder = folder
        self._clock = clock
        self._writing: dict[str, _Writing] = {}
        self._begun: asyncio.Queue[_Writing] = asyncio.Queue(_AT_ONCE)
        self._grown = asyncio.Event()

    async def begin(self, namespace: Namespace) -> str:
        """Begins a copy of ``namespace``; its name. Raises OperationsExhausted, DiskFull."""
        if len(self._writing) >= _AT_ONCE:
            raise OperationsExhausted(
                f"{_AT_ONCE} exports are being copied, as many as may at once; come back", retry_after_s=10.0
            )
        name = secrets.token_hex(16)
        draft = await self._folder.draft_export()
        self._writing[name] = writing = _Writing(name, namespace, draft)
        await self._begun.put(writing)
        return name

    async def read(self, name: str, offset: int) -> AsyncIterator[Piece]:
        """The export from ``offset`` on, as it is written, to its end. Raises ResumeTokenExpired when it is gone, and
        what stopped its writing."""
        file = await self._opened(name)
        read_until = offset
        try:
            await touch(self._folder.export(name), self._clock.time_ns() / 1e9)
            while True:
                writing = self._writing.get(name)
                limit = await file.size() if writing is None else writing.draft.written
                data = await file.read(offset, limit - offset) if offset < limit else b""
                if data:
                    offset += len(data)
                    yield Piece(data, offset)
                    if offset - read_until > _TOUCH_BYTES:
                        read_until = offset
                        await touch(self._folder.export(name), self._clock.time_ns() / 1e9)
                elif writing is None:
                    break
                elif writing.error is not None:
                    raise writing.error
                else:
                    await self._growth()
            if offset < END_SIZE:
                raise ResumeTokenExpired("this export was not finished; export anew")
            yield Piece(b"", offset, await _checksum(file, offset))
        finally:
            file.close()

    async def _opened(self, name: str) -> Opened:
        writing = self._writing.get(name)
        paths = [self._folder.export(name)] + ([writing.draft.path] if writing else [])
        file = await Opened.first_of(*paths) or await Opened.first_of(*paths)  # it may be renamed in between
        if file is not None:
            return file
        if writing is not None and writing.error is not None:
            raise writing.error  # it failed before anybody read
        raise ResumeTokenExpired(
            "the copy that this export read from is gone: an hour after its last read, or when the server ended"
            " while it was written; export anew"
        )

    async def run(self) -> None:
        """Writes what is begun and removes what is old, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(self._write_all())
            while True:
                await self._expire()
                await self._clock.sleep(_CARE_S)

    async def _write_all(self) -> None:
        while True:
            writing = await self._begun.get()
            try:
                await self._write(writing)
            finally:
                writing.draft.discard()
                del self._writing[writing.name]
                self._grown.set()

    async def _write(self, writing: _Writing) -> None:
        now_us = self._clock.time_ns() // 1000
        try:
            await write_copy(
                self._store, writing.namespace, writing.draft, now_us=now_us, told=lambda _: self._grown.set()
            )
            await writing.draft.keep(writing.name)
        except WellspringError as error:
            _log.warning("export failed", extra=fields(namespace=writing.namespace.name, reason=error.reason))
            await self._failed(writing, error)
        except Exception as error:
            _log.error("export failed", extra=fields(namespace=writing.namespace.name), exc_info=error)
            await self._failed(writing, Internal("the export failed; the operator finds why in the log"))

    async def _failed(self, writing: _Writing, error: WellspringError) -> None:
        """Tells the readers why, and waits until they have heard."""
        writing.error = error
        writing.draft.discard()
        self._grown.set()
        await self._clock.sleep(_LOOK_S)

    async def _growth(self) -> None:
        """Waits until something was written, or a second."""
        self._grown.clear()
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._grown.wait()
        except TimeoutError:
            return

    async def _expire(self) -> None:
        try:
            await self._folder.expire_exports(self._clock.time_ns() / 1e9 - KEPT_S)
        except WellspringError as error:
            _log.warning("old exports not removed", extra=fields(reason=error.reason))


async def _checksum(file: Opened, size: int) -> bytes:
    tail = await file.read(size - END_SIZE, END_SIZE)
    try:
        return read_end(tail).sha256
    except ChecksumMismatch:
        raise ResumeTokenExpired("this export was not finished; export anew") from None
