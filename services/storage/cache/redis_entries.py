"""Entries in Redis. A lost answer, a full server, a replica that may not write: each is the exchange failed."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from libs.redis.client import Redis, RedisUnavailable, Script
from services.storage.cache import scripts
from services.storage.cache.entries import CacheUnavailable, Found, Look, Place, PutPage, State

T = TypeVar("T")

MARK_MS: Final = 60_000
"""A mark ends by itself when its writer died: longer than any write takes, its tries and their time limits together."""
_GENERATION_MS: Final = 30 * 86_400_000
_TOGETHER: Final = 256
"""Records in one script: bounds how long it keeps Redis from others."""
_RANDOM: Final = 12


class RedisEntries:
    """``Entries`` below the prefix of one store."""

    def __init__(
        self, redis: Redis, prefix: bytes, random_bytes: Callable[[int], bytes], mark_ms: int = MARK_MS
    ) -> None:
        """``random_bytes(n)``: never the same twice."""
        self._redis = redis
        self._prefix = prefix
        self._random_bytes = random_bytes
        self._mark_ms = mark_ms

    async def look(self, looks: Sequence[Look]) -> list[Found]:
        """As ``Entries.look``."""
        found: list[Found] = []
        random = self._random_bytes(_RANDOM).hex().encode()  # one for all parts: one generation
        for some in _parts(looks):
            keys = [key for one in some for key in (self._generation(one.place.number), self._entry(one.place))]
            arguments: list[bytes | int] = [random, _GENERATION_MS]
            for one in some:
                arguments += (one.max_age_ms, int(one.renew))
            found += [_found(answer) for answer in await self._run(scripts.LOOK, keys, arguments)]
        return found

    async def put(self, pages: Sequence[PutPage]) -> None:
        """As ``Entries.put``."""
        for some in _parts(pages):
            arguments: list[bytes | int] = []
            for one in some:
                arguments += (one.lease, one.page)
            await self._run(scripts.PUT, [self._entry(one.place) for one in some], arguments)

    async def mark(self, places: Sequence[Place], writer: bytes, renew: Sequence[int]) -> None:
        """As ``Entries.mark``."""
        generations = [self._generation(number) for number in renew]
        for some in _parts(places):
            keys = [*(self._entry(place) for place in some), *generations]
            await self._run(scripts.MARK, keys, [writer, self._mark_ms, len(some)])

    async def unmark(self, places: Sequence[Place], writer: bytes) -> None:
        """As ``Entries.unmark``."""
        for some in _parts(places):
            await self._run(scripts.UNMARK, [self._entry(place) for place in some], [writer])

    async def renew(self, numbers: Sequence[int]) -> None:
        """As ``Entries.renew``."""
        for some in _parts(numbers):
            await self._run(scripts.RENEW, [self._generation(number) for number in some], [])

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.close()

    async def _run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes | int]) -> list[list[bytes]]:
        try:
            answer: list[list[bytes]] = await self._redis.run(script, keys, arguments)
        except RedisUnavailable as error:
            raise CacheUnavailable(error.message) from None
        return answer

    def _generation(self, number: int) -> bytes:
        return b"%sg%d" % (self._prefix, number)

    def _entry(self, place: Place) -> bytes:
        return b"%se%d.%s" % (self._prefix, place.number, place.record)


def _found(answer: list[bytes]) -> Found:
    lease, page = answer
    if lease is None:
        return Found(State.WRITING)
    return Found(State.MISS, lease=lease) if page is None else Found(State.HIT, page, lease)


def _parts(many: Sequence[T]) -> list[Sequence[T]]:
    return [many[first : first + _TOGETHER] for first in range(0, len(many), _TOGETHER)]
