"""Whether the engines of a group have the same rules file, topics of events, targets, homes, canaries and views file.

One engine alone works with them, the one that leads the first shard; who is given that next goes on with its own. So
each tells that one what its own are, as digests, and is answered what differs (comparing.py). Nobody is refused for it,
for a new file reaches one engine after the other: both say so.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from libs.telemetry.logs import fields

log = logging.getLogger(__name__)

KEPT_S = 60.0
"""Of an engine that tells nothing any more, what it told is forgotten after this."""
MOST_ENGINES = 1_000

Digests = Mapping[str, bytes]
"""By the setting's name in the configuration, bytes that are the same where the setting is."""


class Alike:
    """Of this process. `own` reads its digests anew, in a thread: a file may have been replaced. It raises OSError."""

    def __init__(self, own: Callable[[], Digests] = dict, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.own = own
        self._clock_s = clock_s
        self._told: dict[str, tuple[Sequence[str], float]] = {}

    async def compare(self, engine: str, told: Digests) -> Sequence[str]:
        """Which of the settings that another engine told are others here, in their order; it is noted. Raises
        OSError."""
        own = await asyncio.to_thread(self.own)
        differing = sorted(name for name in told.keys() & own.keys() if told[name] != own[name])
        before = self.others.get(engine, [])
        self._told.pop(engine, None)
        if differing:
            self._told[engine] = differing, self._clock_s()
            if len(self._told) > MOST_ENGINES:
                del self._told[next(iter(self._told))]
        if differing != before:
            about = fields(engine=engine, settings=differing)
            if differing:
                log.warning("an engine has other settings than this one, which leads the first shard", extra=about)
            else:
                log.info("an engine has the settings of this one again", extra=about)
        return differing

    @property
    def others(self) -> dict[str, Sequence[str]]:
        """Engines that told this one of other settings lately, and which."""
        since_s = self._clock_s() - KEPT_S
        return {engine: differing for engine, (differing, at_s) in self._told.items() if at_s >= since_s}
