"""Which life of the data this is: a store that was put back from a backup is noticed, and what it had is revoked.

The store notes a number that goes up all the time, and a file that is in no backup of the data has the same one. A
store that is behind its file is a copy from before; what was revoked since then is not in it, so every realm is revoked
as a whole before anybody is served. So it is, too, where the file belongs to another store, or one of the two is gone.

A copy from less than EVERY_S before the last moment of the server is not told from what a crash leaves.
"""

import asyncio
import contextlib
import json
import logging
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from libs.clock.clock import Clock
from libs.errors.errors import FailedPrecondition, ResourceExhausted, Unavailable
from libs.files import durable
from libs.telemetry.logs import fields
from services.session.domain.realms import Realms
from services.session.domain.tools import Events
from services.session.store.interface import Store

log = logging.getLogger(__name__)

_NOTE: Final = "incarnation"
_FORMAT: Final = 1
EVERY_S: Final = 5.0
"""Between two numbers."""


class IncarnationUnusable(FailedPrecondition):
    """The file of the incarnation cannot be read or written."""

    default_reason = "INCARNATION_UNUSABLE"


@dataclass(frozen=True, slots=True)
class Life:
    """`name` is another one after each restore, `count` goes up while the store lives."""

    name: str
    count: int

    @property
    def next(self) -> "Life":
        return replace(self, count=self.count + 1)

    def encode(self) -> bytes:
        return json.dumps({"format": _FORMAT, "name": self.name, "count": self.count}).encode() + b"\n"


class Incarnation:
    """Of one store, at one file. `open` is called once, before anything is served."""

    def __init__(self, store: Store, path: Path, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._path = path
        self._life = Life("", 0)
        self._behind = False

    @property
    def name(self) -> bytes:
        """Of this life of the data."""
        return self._life.name.encode()

    async def open(self, realms: Realms, events: Events) -> None:
        """Goes on with the life of the store; or begins another one, with every realm revoked. Where neither store nor
        file knows of one, it begins without. Raises IncarnationUnusable."""
        noted = (await self._store.noted([_NOTE])).get(_NOTE)
        there = None if noted is None else _decode(noted, "the store")
        filed = await asyncio.to_thread(self._read)
        why = _difference(there, filed)
        if why:
            for name in realms.names():
                await realms.revoke(name)
                events.record("realm_revoked", name, cause="restored")
            log.critical(
                "the data is not what this server left: every realm was revoked",
                extra=fields(why=why, path=str(self._path)),
            )
            there = None
        self._life = Life(secrets.token_hex(8), 0) if there is None else there
        await self.advance()

    async def run(self) -> None:
        """Counts for ever. A disk that takes no writes puts it off; the health of the store says so."""
        while True:
            await self._clock.sleep(EVERY_S)
            try:
                await self.advance()
            except (ResourceExhausted, Unavailable) as error:
                log.debug("the incarnation is not counted on", extra=fields(reason=error.reason))
            except IncarnationUnusable as error:
                if not self._behind:
                    log.critical(
                        "the file of the incarnation is not written",
                        extra=fields(reason=error.reason, path=str(self._path)),
                    )
                self._behind = True

    async def check(self) -> None:
        """Raises while the file cannot be written: a copy of the store would not be told."""
        if self._behind:
            raise Unavailable("the incarnation's file cannot be written")

    async def close(self) -> None:
        """Counts once more: a copy of the store from before this moment is told."""
        with contextlib.suppress(ResourceExhausted, Unavailable, IncarnationUnusable):
            await self.advance()

    async def advance(self) -> None:
        """One more, in the store and then in the file: after a crash the store is one ahead at most."""
        if not self._behind:
            await self._store.note({_NOTE: self._life.next.encode()})
            self._life = self._life.next
        await asyncio.to_thread(self._write, self._life.encode())
        self._behind = False

    def _read(self) -> Life | None:
        try:
            return _decode(self._path.read_bytes(), str(self._path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise IncarnationUnusable(f"incarnation_file: {self._path} cannot be read: {error.strerror}") from None

    def _write(self, data: bytes) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            durable.replace(self._path, data)
        except OSError as error:
            raise IncarnationUnusable(f"incarnation_file: {self._path} cannot be written: {error.strerror}") from None


def _difference(there: Life | None, filed: Life | None) -> str:
    """Why the store is not what the file is about; empty when it is."""
    if there is None and filed is None:
        return ""
    if there is None:
        return "the store has no number, and the file has one"
    if filed is None:
        return "the store has a number, and there is no file"
    if there.name != filed.name:
        return "the file belongs to another store, or to another life of it"
    if there.count < filed.count:
        return "the store is older than the file: a copy of it was put back"
    if there.count > filed.count + 1:
        return "the file is older than the store"
    return ""


def _decode(data: bytes, where: str) -> Life:
    try:
        found: Any = json.loads(data)
        if found["format"] == _FORMAT and isinstance(found["name"], str) and isinstance(found["count"], int):
            return Life(found["name"], found["count"])
    except (ValueError, KeyError, TypeError):
        pass
    raise IncarnationUnusable(
        f"{where} holds no incarnation of a store; remove the file, and every realm is revoked at the start"
    )
