"""What the nodes warn of: how much one batch of several partitions may hold. Their own settings say it."""

import logging
import re
from typing import Final, NamedTuple

from libs.cassandra.session import LOCAL_ONE, Session
from libs.errors.errors import WellspringError

logger = logging.getLogger(__name__)

_SETTING: Final = "SELECT value FROM system_views.settings WHERE name = ?"
_UNITS: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_MOST_BYTES: Final = 256 << 10
"""However much the nodes allow: what one of them passes on to others at once."""


class BatchLimits(NamedTuple):
    """Of a batch of several partitions: bytes of its rows, and partitions. By default those of Cassandra 5."""

    bytes: int = 5 << 10
    partitions: int = 10


async def batch_limits(session: Session) -> BatchLimits:
    """What the node that answers is configured with (``batch_size_warn_threshold`` and
    ``unlogged_batch_across_partitions_warn_threshold``, which all nodes should have alike); Cassandra's defaults where
    that may not be read."""
    try:
        setting = await session.prepare(_SETTING, write=False)
        size = await session.execute(setting, ("batch_size_warn_threshold",), LOCAL_ONE)
        partitions = await session.execute(setting, ("unlogged_batch_across_partitions_warn_threshold",), LOCAL_ONE)
    except WellspringError as error:
        logger.warning("the limits of batches cannot be read; the defaults are taken", extra={"reason": error.reason})
        return BatchLimits()
    default = BatchLimits()
    return BatchLimits(
        _size(size[0][0] if size else None, default.bytes),
        int(partitions[0][0]) if partitions and str(partitions[0][0]).isdecimal() else default.partitions,
    )


def _size(value: str | None, default: int) -> int:
    """A size as the settings write it, ``5KiB``."""
    found = re.fullmatch(r"(\d+)(B|KiB|MiB|GiB)", value or "")
    return default if found is None else min(int(found[1]) * _UNITS[found[2]], _MOST_BYTES)
