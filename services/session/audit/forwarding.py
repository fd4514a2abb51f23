"""Sends the audit's entries on to a topic, out of the file: in order, each at least once.

The file is the spool. An entry is sent when it is on disk, and what has arrived is noted beside the file, so that a
server that was killed goes on behind it and repeats a second's entries at most. A broker that is away stops nothing and
loses nothing; when more waits than the bound allows, the server says that it is not ready.
"""

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from libs.errors.errors import Unavailable
from libs.files import durable
from libs.telemetry.logs import fields
from services.session.audit.chain import Place
from services.session.audit.file import AuditFile
from services.session.audit.spool import NotThere, Spool

log = logging.getLogger(__name__)

_EVERY_S: Final = 0.5
_SHORTEST_S: Final = 0.5
_LONGEST_S: Final = 15.0
_SLOW_S: Final = 10.0
_LAST_CHANCE_S: Final = 5.0
"""At the end, for what is not sent yet; the rest goes at the next start."""


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Tells of what takes long, while it does."""
    what = "no broker acknowledges the audit's entries; they are kept in the file meanwhile"
    alarm = asyncio.get_running_loop().call_later(_SLOW_S, log.warning, what)
    try:
        yield
    finally:
        alarm.cancel()


class Topic(Protocol):
    """Where entries go."""

    async def send(self, key: str, lines: list[bytes]) -> None:
        """Returns when all have arrived, in this order, behind those of before. Raises Unavailable when some may not
        have, and the same lines are to be sent again."""
        ...

    async def close(self) -> None:
        """Lets go of the connections."""
        ...


class Forwarder:
    """Of one audit file to one topic. `writer` is the name of this server's data centre."""

    def __init__(
        self, audit: AuditFile, path: Path, writer: str, topic: Topic, *, most_bytes: int, registry: CollectorRegistry
    ) -> None:
        """`path` is the audit's file; the note of what has arrived is beside it, with ".sent" added."""
        self._audit = audit
        self._writer = writer
        self._topic = topic
        self._most_bytes = most_bytes
        self._spool = Spool(path)
        self._note = path.with_name(f"{path.name}.sent")
        self._chain = ""
        self._arrived: Place | None = None
        self._unsent = Gauge(
            "wellspring_session_audit_unsent_bytes",
            "Of the audit's files, not in the topic yet.",
            registry=registry,
        )
        self._sent = Counter(
            "wellspring_session_audit_sent", "Entries of the audit that reached the topic.", registry=registry
        )
        # Until it is known what has arrived, every file is kept.
        audit.arrived = 0

    async def run(self) -> None:
        """Sends for ever."""
        pause_s, told = _SHORTEST_S, False
        while True:
            try:
                await self.send_all()
            except (Unavailable, OSError, NotThere) as error:
                if not told:
                    what = error.message if isinstance(error, Unavailable) else "the audit's files cannot be read"
                    log.warning("the audit does not reach its topic", extra=fields(problem=what))
                told = True
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_S)
                continue
            if told:
                log.info("the audit reaches its topic again")
            pause_s, told = _SHORTEST_S, False
            await asyncio.sleep(_EVERY_S)

    async def finish(self) -> None:
        """A last chance for what is on disk, when the audit is closed; then the topic is let go."""
        with contextlib.suppress(Unavailable, OSError, NotThere, TimeoutError):
            async with asyncio.timeout(_LAST_CHANCE_S):
                await self.send_all()
        self._spool.close()
        await self._topic.close()

    async def check(self) -> None:
        """Raises while more waits than the bound allows."""
        left = await asyncio.to_thread(self._spool.left_bytes)
        self._unsent.set(left)
        if left > self._most_bytes:
            raise Unavailable(f"{left} bytes of the audit have not reached the topic; {self._most_bytes} may wait")

    async def send_all(self) -> None:
        """Sends what is on disk and has not arrived. Raises Unavailable, OSError, NotThere; it may be called again."""
        if self._arrived is None:
            self._arrived = await asyncio.to_thread(self._find)
            self._audit.arrived = self._arrived.number
        sure, self._arrived = self._arrived, None  # whatever is raised: look again at the note
        while lines := await asyncio.to_thread(self._spool.read, self._audit.synced):
            with _telling():
                await self._topic.send(f"{self._writer}/{self._chain}", lines)
            sure = self._spool.place
            await asyncio.to_thread(self._write_note, sure)
            self._audit.arrived = sure.number
            self._sent.inc(len(lines))
        self._arrived = sure

    def _find(self) -> Place:
        """Goes behind what has arrived; to the oldest entry, as a chain of another name, where the files do not go on
        from there. Raises NotThere, OSError."""
        try:
            noted = json.loads(self._note.read_bytes())
            self._chain, place = str(noted["chain"]), Place(int(noted["number"]), str(noted["hash"]))
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError):
            log.warning("the note of what is in the audit's topic is damaged", extra=fields(path=str(self._note)))
        else:
            try:
                self._spool.seek(place)
            except NotThere:
                more = fields(after=place.number)
                log.critical("the audit's files do not go on from what is in its topic", extra=more)
            else:
                return place
        place = self._spool.begin()
        self._chain = secrets.token_hex(8)
        self._write_note(place)
        return place

    def _write_note(self, place: Place) -> None:
        said = {"chain": self._chain, "number": place.number, "hash": place.hash}
        durable.replace(self._note, json.dumps(said).encode() + b"\n")
