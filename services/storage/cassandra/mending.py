"""A damaged piece of a big value is had from another replica, and put where it was damaged.

Each piece lies with its checksum, and is written once.
"""

import logging
from typing import Final

from libs.cassandra.session import LOCAL_QUORUM
from libs.errors.errors import Unavailable
from services.storage.cassandra.layout import chunk_part
from services.storage.cassandra.lww.far import Datacentres
from services.storage.cassandra.replicas import everywhere
from services.storage.domain.errors import ChecksumMismatch
from services.storage.store.uploads import checked_chunk

_log = logging.getLogger(__name__)
_LATER_US: Final = 1
"""By which what is put is newer than what it replaces: older than any delete of the whole upload."""


class Mending:
    """Looks for whole pieces in all data centres, the own one first."""

    def __init__(self, datacentres: Datacentres) -> None:
        self._datacentres = datacentres

    async def mend(self, number: int, upload: bytes, index: int, size: int) -> bytes | None:
        """The piece of ``size`` bytes of an upload in the namespace with a ``number``; None when no replica that
        answers has it whole. What is found replaces the damaged ones."""
        place = (number, upload, chunk_part(index), index)
        newest, whole = 0, b""
        async for value, stamp in everywhere(self._datacentres, "stamped_chunk", place):
            newest = max(newest, stamp)
            try:
                checked_chunk(value, size)
            except ChecksumMismatch:
                continue
            whole = whole or value
        if not whole:
            return None
        more = {"namespace_number": number, "upload": upload.hex(), "piece": index}
        _log.critical("a stored piece of a value was damaged; a replica had it whole", extra=more)
        here = self._datacentres.here
        try:
            values = (*place, whole, newest + _LATER_US)
            await here.session.execute(here.statements.write["mend_chunk"], values, LOCAL_QUORUM)
        except Unavailable as error:  # the next one who reads it tries again
            _log.warning("a damaged piece could not be replaced", extra=more | {"reason": error.reason})
        return checked_chunk(whole, size)
