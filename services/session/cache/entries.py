"""What Redis keeps of sessions, and what keeps it from showing what is over: four exchanges, each a script.

An entry is of a session (its *page*, sealed) or of a subject. Each has a *lease*, a random name that it begins with and
ends with:

* ``look`` finds a session's page, or the lease under which what the store says may be put;
* ``lease`` is a subject's; a page is put under both, and is found only while its subject's is still the same;
* ``put`` keeps a page if both leases stand;
* ``drop`` ends entries. It comes after each write and before its answer: whatever was read before it can be put no
  more, and what was put is gone.

An entry of a session ends so long after its first look, by Redis' own clock, that no page is older than that, whatever
was lost: a drop, a failover, a reader that slept between reading and putting.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from libs.redis.client import Redis, Script

_RANDOM: Final = 12
SUBJECT_MS: Final = 600_000
"""How long a subject's lease is kept without being asked for: when it goes, its sessions' pages are not found."""

LOOK: Final = Script(
    "look",
    # KEYS: session. ARGV: incarnation, a fresh lease, milliseconds
    """
local have = redis.call('HMGET', KEYS[1], 'l', 'p', 'u', 's')
if have[1] then
  if have[2] and redis.call('GET', have[3]) == have[4] then return {have[1], have[2]} end
  return {have[1], false}
end
redis.call('HSET', KEYS[1], 'l', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {ARGV[2], false}
""",
)
LEASE: Final = Script(
    "lease",
    # KEYS: subject. ARGV: incarnation, a fresh lease, milliseconds
    """
local lease = redis.call('GET', KEYS[1])
if lease then redis.call('PEXPIRE', KEYS[1], ARGV[3]) return lease end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ARGV[2]
""",
)
PUT: Final = Script(
    "put",
    # KEYS: session, subject. ARGV: incarnation, the session's lease, the subject's, page
    """
if redis.call('HGET', KEYS[1], 'l') == ARGV[2] and redis.call('GET', KEYS[2]) == ARGV[3] then
  redis.call('HSET', KEYS[1], 'p', ARGV[4], 'u', KEYS[2], 's', ARGV[3])
  return 1
end
return 0
""",
)
DROP: Final = Script("drop", "return redis.call('UNLINK', unpack(KEYS))")
HINT: Final = Script(
    "hint",
    # ARGV: incarnation, channel, message
    "return redis.call('PUBLISH', ARGV[2], ARGV[3])",
)
ALL: Final = (LOOK, LEASE, PUT, DROP, HINT)
_TOGETHER: Final = 256
"""Dropped by one script."""


class Looked(NamedTuple):
    """`page` is None where there is none; `lease` is what one may be put under."""

    lease: bytes
    page: bytes | None


class Entries:
    """Entries in one Redis. Names are the caller's, as bytes. All methods raise RedisUnavailable: what was asked may
    have been done."""

    def __init__(self, redis: Redis, random: Callable[[int], bytes]) -> None:
        """`random(n)`: n unpredictable bytes, never the same twice."""
        self._redis = redis
        self._random = random

    async def look(self, session: bytes, life_ms: int) -> Looked:
        """A session's entry, which begins with this if there is none and then ends after `life_ms`."""
        lease, page = await self._redis.run(LOOK, [session], [self._random(_RANDOM), life_ms])
        return Looked(lease, page)

    async def lease(self, subject: bytes) -> bytes:
        """A subject's lease."""
        found: bytes = await self._redis.run(LEASE, [subject], [self._random(_RANDOM), SUBJECT_MS])
        return found

    async def put(self, session: bytes, lease: bytes, subject: bytes, subject_lease: bytes, page: bytes) -> bool:
        """Keeps a page; False when one of the leases is over."""
        return bool(await self._redis.run(PUT, [session, subject], [lease, subject_lease, page]))

    async def drop(self, names: Sequence[bytes]) -> None:
        """Ends entries."""
        for first in range(0, len(names), _TOGETHER):
            await self._redis.run(DROP, names[first : first + _TOGETHER], [])

    async def hint(self, channel: bytes, message: bytes) -> None:
        """Tells whoever listens just now."""
        await self._redis.run(HINT, [], [channel, message])

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.close()
