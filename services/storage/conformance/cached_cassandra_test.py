"""Servers of a cluster behind one cache, one of which cannot reach it: whoever brings a cookie, or asks for a strong
read, is answered by the store, also while the cache has what was before."""

import asyncio
from typing import Any

import pytest

from services.storage.cassandra.store import CassandraStore
from services.storage.conformance.cached import cached
from services.storage.conformance.kit import Case, Clock
from services.storage.conformance.node import PATIENT, fresh
from services.storage.domain.model import Mode
from services.storage.domain.namespace import Consistency

NOBODY = 1
"""A port on which no Redis is."""


@pytest.mark.parametrize("mode", list(Mode))
def test_a_cookie_sees_the_write_of_a_server_that_could_not_tell_the_cache(mode: Mode) -> None:
    options = fresh()

    async def story() -> None:
        clock = Clock()
        stores: list[Any] = []
        try:
            for port in (0, NOBODY):
                stores.append(await cached(await CassandraStore.open(options, clock, timing=PATIENT), clock, port))
            reader, writer = (Case(store, clock, lambda: None) for store in stores)
            writer._random.seed(2)
            space = await reader.space(mode)
            await writer.store.namespaces()
            await reader.put(space, b"r", {b"k": b"old"})
            assert await reader.items(space, b"r") == {b"k": b"old"}
            hits = stores[0].stats.hits
            assert await reader.items(space, b"r") == {b"k": b"old"}
            assert stores[0].stats.hits == hits + 1

            receipt = await writer.put(space, b"r", {b"k": b"new"})
            assert stores[1].stats.unmarked == 1
            seen = writer.store.feed_cursor(space, receipt)
            # The cache has no reason to doubt what it has; the others do not ask it.
            assert await reader.items(space, b"r") == {b"k": b"old"}
            assert await reader.items(space, b"r", seen=seen) == {b"k": b"new"}
            for consistency in (Consistency.STRONG_LOCAL, Consistency.STRONG_GLOBAL):
                assert await reader.items(space, b"r", consistency=consistency) == {b"k": b"new"}
            assert await writer.items(space, b"r") == {b"k": b"new"}
            assert stores[0].stats.hits == hits + 2

            # What is told to the cache from here on ends it.
            await reader.put(space, b"r", {b"another": b"1"})
            assert await reader.items(space, b"r") == {b"k": b"new", b"another": b"1"}
        finally:
            for store in stores:
                await store.close()

    asyncio.run(story())
