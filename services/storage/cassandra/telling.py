"""A change as the feed tells it, when what is stored of it can be read, and when it cannot.

An event has no checksum. It names its record, as its row does beside it; one that names another, or is none, is had
from another replica. Where none has it whole it is told in doubt: who follows the feed reads the record again, and
nobody waits behind it.
"""

import logging
import struct
from typing import Final

from services.storage.cassandra.announced import change_at
from services.storage.cassandra.layout import feed_slot
from services.storage.cassandra.lww.far import Datacentres
from services.storage.cassandra.replicas import everywhere
from services.storage.domain.feed import ChangeEvent
from services.storage.store import events

_log: Final = logging.getLogger(__name__)


def whole(event: bytes, record: bytes) -> ChangeEvent | None:
    """The event of a change of ``record``; None when it is damaged, as far as that can be seen."""
    try:
        found = events.decode(event)
        return found if found.record == record and events.encode(found) == event else None
    except (struct.error, IndexError, UnicodeDecodeError):
        return None


async def told(
    datacentres: Datacentres, number: int, lane: int, sequence: int, record: bytes, event: bytes
) -> ChangeEvent:
    """The change of a record of the namespace with a ``number``, of which ``event`` was read."""
    found = whole(event, record)
    if found is not None:
        return found
    more = {"namespace_number": number, "lane": lane, "sequence": sequence}
    async for row in everywhere(datacentres, "change", (number, lane, feed_slot(sequence), sequence)):
        other = change_at([row], sequence)
        found = whole(other.event, record) if other is not None and other.event is not None else None
        if found is not None:
            _log.critical("a change of the feed was damaged; a replica had it whole", extra=more)
            return found
    _log.critical("a change of the feed is damaged on each replica that answers: told in doubt", extra=more)
    version = sequence.to_bytes(8, "big") + lane.to_bytes(8, "big")
    return ChangeEvent(record, version, (), 0, False, False, sequence, (), in_doubt=True)
