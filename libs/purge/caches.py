"""All caches of a data centre, inner before outer, as the configuration names them.

What an inner cache still had could fill an outer one that was purged before it; so a purge goes to an outer cache only
when every instance of every inner one has acknowledged it.

A cache with a `rebound` is behind an origin that cannot refuse pages older than a purge's minimum version: a reader's
fetch that was under way may bring the old page back after the purge. It, and every cache outside it, is purged a second
time so long after the first; only then is the purge acknowledged. Nothing waits in a queue that a crash could lose: who
asked for the purge waits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from libs.purge.client import Instance, Purge, PurgeClient, PurgeFailed
from libs.purge.naming import PURGE_TAGS_HEADER, VARNISH_PURGE_TAGS_HEADER
from wellspring.config.v1 import propagation_pb2

MAX_TAGS_BYTES: Final = 4096
"""Of one purge: half of what Varnish and aiohttp take as a header line by default."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache: its instances hold the same pages and are purged side by side. `rebound_s` 0: no second purge."""

    name: str
    instances: tuple[PurgeClient, ...]
    rebound_s: float = 0.0


class Caches:
    """Purges of every cache, inner before outer. Close it when done. `sleep` waits so many seconds."""

    def __init__(self, layers: Sequence[Cache], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.layers = tuple(layers)
        self._sleep = sleep
        # When each second purge is due after the first, and the innermost cache that it begins with.
        self._rebounds: dict[float, int] = {}
        for number, cache in reversed(list(enumerate(self.layers))):
            if cache.rebound_s > 0:
                self._rebounds[cache.rebound_s] = number

    @classmethod
    def of(cls, targets: Iterable[propagation_pb2.CacheTarget]) -> Self:
        """From a configuration's list. Raises ValueError that says which entry is wrong."""
        layers: list[Cache] = []
        seen: dict[str, str] = {}
        for number, target in enumerate(targets):
            at = f"caches[{number}]"
            for what, given in [("name", target.name), *(("urls", url.rstrip("/")) for url in target.urls)]:
                if given in seen:
                    raise ValueError(f"{at}.{what}: {given!r} is in {seen[given]} already; a cache is named once")
                seen[given] = f"{at}.{what}"
            try:
                instances = tuple(PurgeClient(_instance(target, url)) for url in target.urls)
            except ValueError as error:
                raise ValueError(f"{at}.urls: {error}") from None
            layers.append(Cache(target.name, instances, target.rebound.ToNanoseconds() / 1e9))
        return cls(layers)

    async def purge(self, purges: Sequence[Purge], *, begin: str = "") -> dict[int, PurgeFailed]:
        """Ends when every cache has answered, the second purges included; by index, why a purge is not acknowledged.

        `begin` names the innermost cache that needs it (empty: all). Raises ValueError when there is no such cache.
        """
        first = self._number(begin) if begin else 0
        failed: dict[int, PurgeFailed] = {}
        if not purges:
            return failed
        await self._outwards(purges, first, failed)
        waited = 0.0
        for due in sorted(self._rebounds):
            if self._rebounds[due] >= first and len(failed) < len(purges):
                await self._sleep(due - waited)
                waited = due
                await self._outwards(purges, self._rebounds[due], failed)
        return failed

    async def purge_each(self, purges: Sequence[Purge]) -> list[tuple[str, dict[int, PurgeFailed]]]:
        """For people: what became of the purges at each cache by name, inner to outer. A failure does not spare the
        outer caches, and there are no second purges."""
        return [(cache.name, await _purge_instances(cache, purges)) for cache in self.layers]

    async def close(self) -> None:
        """Ends the connections."""
        for cache in self.layers:
            for client in cache.instances:
                await client.close()

    async def _outwards(self, purges: Sequence[Purge], first: int, failed: dict[int, PurgeFailed]) -> None:
        for cache in self.layers[first:]:
            if not failed:
                failed |= await _purge_instances(cache, purges)
                continue
            left = [index for index in range(len(purges)) if index not in failed]
            if not left:
                return
            found = await _purge_instances(cache, [purges[index] for index in left])
            failed |= {left[index]: error for index, error in found.items()}

    def _number(self, name: str) -> int:
        for number, cache in enumerate(self.layers):
            if cache.name == name:
                return number
        raise ValueError(f"there is no cache {name!r}; there are: {', '.join(c.name for c in self.layers) or 'none'}")


def tag_purges(tags: Iterable[str], min_version: bytes = b"") -> list[Purge]:
    """Few purges for many tags, each tag once, as many in one as a header takes."""
    purges: list[Purge] = []
    together: list[str] = []
    size = 0
    for tag in dict.fromkeys(tags):
        if together and size + len(tag) + 1 > MAX_TAGS_BYTES:
            purges.append(Purge(min_version=min_version, tags=tuple(together)))
            together, size = [], 0
        together.append(tag)
        size += len(tag) + 1
    if together:
        purges.append(Purge(min_version=min_version, tags=tuple(together)))
    return purges


async def _purge_instances(cache: Cache, purges: Sequence[Purge]) -> dict[int, PurgeFailed]:
    if len(cache.instances) == 1:
        return await cache.instances[0].purge(purges)
    found = await asyncio.gather(*(client.purge(purges) for client in cache.instances))
    return {index: error for one in found for index, error in one.items()}


def _instance(target: propagation_pb2.CacheTarget, url: str) -> Instance:
    depth = min(target.pipeline, target.max_concurrency)
    varnish = target.kind == propagation_pb2.CacheTarget.KIND_VARNISH
    return Instance(
        url=url,
        cache=target.name,
        host=target.host,
        connections=target.max_concurrency // depth,
        depth=depth,
        timeout_s=target.timeout.ToNanoseconds() / 1e9,
        tags_header=VARNISH_PURGE_TAGS_HEADER if varnish else PURGE_TAGS_HEADER,
    )
