"""A start that waits for brokers that are away; whatever else is wrong is told at once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from libs.kafka.errors import BrokersAway

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_RETRY_S = 2.0


async def when_there(work: Callable[[], Awaitable[_T]]) -> _T:
    """What the work answers, begun anew as long as it raises BrokersAway."""
    while True:
        try:
            return await work()
        except BrokersAway:
            log.warning("waiting for the Kafka brokers")
            await asyncio.sleep(_RETRY_S)
