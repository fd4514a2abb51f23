"""What became of an announced change of an LWW record, and what is done when that cannot be said.

A change that happened left word in its record, in the same batch. Where there is none the change may be under way, and
there is nothing by which it could be stopped. So after ``patience_s`` it is told *in doubt* (whoever follows the feed
reads the record again), and noted, to be looked at again: should it come after all, it is told anew. The same does its
writer, when it finds that it took so long.
"""

from collections.abc import Callable
from typing import Final

from libs.cassandra.session import LOCAL_QUORUM
from services.storage.cassandra.accounts import Accounts
from services.storage.cassandra.announced import change_at
from services.storage.cassandra.lanes import Intent, Lane, settled
from services.storage.cassandra.layout import feed_slot
from services.storage.cassandra.lww.far import Datacentres, Place
from services.storage.cassandra.lww.steps import LwwSteps
from services.storage.cassandra.lww.writing import ANNOUNCED, ANNOUNCED_TTL_S, announced_key
from services.storage.cassandra.partition import TOKENS
from services.storage.domain.feed import ChangeEvent
from services.storage.domain.namespace import Namespace
from services.storage.store import events

_KEPT: Final = 100_000


class Resolver:
    """Of one store."""

    def __init__(
        self,
        datacentres: Datacentres,
        steps: LwwSteps,
        accounts: Accounts,
        clock_us: Callable[[], int],
        monotonic_s: Callable[[], float],
        patience_s: float,
    ) -> None:
        self._datacentres = datacentres
        self._steps = steps
        self._accounts = accounts
        self._clock_us = clock_us
        self._monotonic_s = monotonic_s
        self._patience_s = patience_s
        self._first_seen: dict[Intent, float] = {}

    async def resolve(self, own: Lane, place: Place, intent: Intent, record: bytes) -> tuple[bytes | None, bool]:
        """(the event, whether it will never come) of an intent that is open in a lane written at ``place``; (None,
        False) while that cannot be said. Raises Unavailable."""
        if (intent.lane, intent.sequence) in own.under_way:
            return None, False
        event = self._steps.settling(own).event(intent.lane, intent.sequence)
        if event is not None:
            return event, False
        # Before the look: what happens after it is younger than our patience.
        waited = self._waited(intent)
        event = await self._happened(place, intent, record)
        if event is None:
            slot = feed_slot(intent.sequence)
            values = (intent.number, intent.lane, slot, intent.sequence)
            rows = await place.session.execute(place.statements.read["change"], values, LOCAL_QUORUM)
            now = change_at(rows, intent.sequence)
            if now is not None and (now.event is not None or now.void):
                return now.event, now.void
            if not waited:
                return None, False
            event = await self._doubt(intent, record)
        self._first_seen.pop(intent, None)
        await place.session.execute(*settled(place.statements.write, intent, event), LOCAL_QUORUM)
        return event, False

    async def revisit(self, space: Namespace, own: Lane) -> None:
        """Looks again at what was told in doubt; tells what has happened since. Raises Unavailable."""
        here = self._datacentres.here
        read, write = here.statements.read, here.statements.write
        async for page in here.session.pages(read["doubts"], (space.number,), LOCAL_QUORUM):
            for lane, sequence, record, told_us, token in page:
                intent = Intent(space.number, lane, sequence, token=token or b"")
                event = await self._happened(here, intent, record)
                if event is not None:
                    standing = await self._accounts.standing(space.number)
                    await self._steps.tell(standing, own, record, event)
                elif self._clock_us() - told_us < ANNOUNCED_TTL_S * 1_000_000:
                    continue
                await here.session.execute(write["drop_doubt"], (space.number, lane, sequence), LOCAL_QUORUM)

    def _waited(self, intent: Intent) -> bool:
        if len(self._first_seen) > _KEPT:
            self._first_seen.clear()
        now_s = self._monotonic_s()
        return now_s - self._first_seen.setdefault(intent, now_s) >= self._patience_s

    async def _happened(self, place: Place, intent: Intent, record: bytes) -> bytes | None:
        word = announced_key(intent.lane, intent.sequence)
        row = (TOKENS, intent.token) if intent.token else (ANNOUNCED, word)
        values = (intent.number, record, [row])
        rows = await place.session.execute(place.statements.read["lww_rows"], values, LOCAL_QUORUM)
        if not rows:
            return None
        _, _, value, more = rows[0]
        found: bytes | None = (more or {}).get(word) if intent.token else value
        return found

    async def _doubt(self, intent: Intent, record: bytes) -> bytes:
        """The event of a change in doubt, once it is noted that it is."""
        here = self._datacentres.here
        values = (intent.number, intent.lane, intent.sequence, intent.token or None, record, self._clock_us())
        await here.session.execute(here.statements.write["doubt"], values, LOCAL_QUORUM)
        version = intent.sequence.to_bytes(8, "big") + intent.lane.to_bytes(8, "big")
        return events.encode(ChangeEvent(record, version, (), 0, False, False, self._clock_us(), (), in_doubt=True))
