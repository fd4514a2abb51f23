"""Servers of one cluster that publish the same feed: one of them at a time, and another one when it ends."""

import asyncio

import pytest

from services.storage.conformance.cassandra_faults_test import opened
from services.storage.conformance.node import fresh
from services.storage.domain.feed import change_id
from services.storage.domain.model import Mode
from services.storage.publishing.rig import MemoryTopic, publishing

PATIENCE_S = 300


@pytest.mark.parametrize("mode", list(Mode))
def test_changes_of_all_servers_are_published_by_one_and_then_another(mode: Mode) -> None:
    options = fresh()

    async def story() -> None:
        async with opened(options, 2) as cases:
            space = await cases[0].space(mode, "ns")
            await cases[1].store.namespaces()
            wrote: list[str] = []

            async def write() -> None:
                for number in range(10):
                    record = b"r%d" % number
                    receipts = [await case.put(space, record, {b"k": b"%d" % len(wrote)}) for case in cases]
                    wrote.extend(change_id("ns", receipt.version, record) for receipt in receipts)

            topics = MemoryTopic(), MemoryTopic()
            await write()
            async with publishing(cases[0].store, space, topics[0]):
                await topics[0].has(wrote, PATIENCE_S)
                async with publishing(cases[1].store, space, topics[1]):
                    await write()
                    # A machine that is busy may make one look silent to the other.
                    async with asyncio.timeout(PATIENCE_S):
                        while not set(wrote) <= {*topics[0].ids(), *topics[1].ids()}:  # noqa: ASYNC110
                            await asyncio.sleep(0.05)
            async with publishing(cases[1].store, space, topics[1]):
                before = len(wrote)
                await write()
                await topics[1].has(wrote[before:], PATIENCE_S)

    asyncio.run(story())
