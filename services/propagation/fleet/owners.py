"""Where each shard is led: asked of the consumer group, whose members carry their engines' addresses in their names.

A member that was killed is told until the brokers miss it; a call to it fails, and is made again where the shard is led
then. So what is known here may be old, and is never proof of anything.
"""

import asyncio
import logging

from libs.errors.errors import WellspringError
from libs.kafka.groups import Groups
from libs.kafka.options import Options

log = logging.getLogger(__name__)

_PREFIX = "wellspring-propagation@"
_EVERY_S = 2.0
_SOONEST_S = 0.2


def member_name(address: str) -> str:
    """The client.id of the engine that listens there."""
    return _PREFIX + address


class Owners:
    """Of the partitions of `topic`, in `group`."""

    def __init__(self, options: Options, group: str, topic: str) -> None:
        self._groups = Groups(options)
        self._group = group
        self._topic = topic
        self._addresses: dict[int, str] = {}
        self._asked = asyncio.Event()

    def address_of(self, shard: int) -> str | None:
        """Where the shard was led when it was last looked for; None when nobody is known to."""
        return self._addresses.get(shard)

    def look_again(self) -> None:
        """What was told was wrong, or is missing."""
        self._asked.set()

    async def run(self) -> None:
        """Looks for ever: every two seconds, and soon when asked."""
        while True:
            try:
                members = await self._groups.members(self._group, self._topic)
            except WellspringError as error:
                log.info("the group of the shards cannot be asked now: %s", error.message)
                members = None
            if members is not None:
                self._addresses = {
                    shard: member.client_id.removeprefix(_PREFIX)
                    for member in members
                    if member.client_id.startswith(_PREFIX)
                    for shard in member.partitions
                }
            await asyncio.sleep(_SOONEST_S)
            self._asked.clear()
            try:
                async with asyncio.timeout(_EVERY_S):
                    await self._asked.wait()
            except TimeoutError:
                continue
