"""Two data centres, one of them stopped, killed and back: each cell of the table holds, and what was acknowledged is
there afterwards, everywhere."""

import asyncio
from contextlib import AsyncExitStack

from services.storage.rig import put
from tests.datacentres.asking import Asker, Away, patiently, until
from tests.datacentres.cluster import cut
from tests.datacentres.play import CUT, playing
from tests.datacentres.promises import DATACENTRES, HOME, LOCAL
from tests.datacentres.watching import watching
from tests.histories.clients import channel


def test_each_consistency_with_a_data_centre_away_and_back(both):
    async def story():
        async with playing(both) as play:
            await play.holds(None)
            await play.converged()
            for away in DATACENTRES:
                node = both.datacentres[away].node
                node.pause()
                await play.holds(away)
                # Not stopped any more but gone: connections are refused, and the other nodes know.
                node.kill()
                await play.holds(away)
                await asyncio.to_thread(node.restart)
                await play.returned()

    asyncio.run(story())


def test_both_data_centres_go_on_while_the_link_between_them_is_cut(both):
    """Each holds to what the table says of the other one being away; whoever watches here is told what is written here
    meanwhile, and of all that was written there when the link is mended."""

    async def story():
        async with playing(both) as play, AsyncExitStack() as stack:
            watchers = {}
            for name, one in both.datacentres.items():
                to = await stack.enter_async_context(channel(one.server.address))
                for space in ("homed", "merged") if name == HOME else ("merged",):
                    watchers[space, name] = await stack.enter_async_context(watching(to, space))

            def missing(apart):
                """Of whose record which watcher was not told all; when apart, of those where it is."""
                return [
                    (record, watched)
                    for (space, author, record), written in play.ledger.written.items()
                    for watched, watcher in watchers.items()
                    if watched[0] == space and (watched[1] == author or not apart)
                    if not watcher.has(record, written.versions)
                ]

            async def are_told(what, apart=False):
                async def told():
                    return not missing(apart)

                try:
                    await until(told, what)
                except TimeoutError:
                    raise AssertionError(f"{what}: {missing(apart)}") from None

            await play.holds(None)
            await are_told("all")
            with cut(both.cassandra):
                await play.holds(CUT)
                await are_told("what is written here", apart=True)
                # By now each has found out that the other one is away.
                await play.holds(CUT)
                await are_told("what is written here, again", apart=True)
            await play.returned()
            await are_told("what was written beyond the cut")

    asyncio.run(story())


def test_a_server_starts_while_the_other_data_centre_is_away(both):
    """And serves the namespaces at home there, also one whose quota needs to know what others have."""
    far, near = both.datacentres[DATACENTRES[1]], both.datacentres[HOME]
    far.node.pause()
    try:
        near.server.kill()
        near.server.start()
        asyncio.run(_served(near))
    finally:
        far.node.resume()


async def _served(near):
    async with channel(near.server.address) as to:
        asker = Asker(near.name, to)
        value = b"restarted"
        await patiently("a write", asker.put, put(b"restarted", value, namespace="counted"))
        assert await patiently("a read", asker.get, "counted", b"restarted") == value
        assert await patiently("a scan", asker.scan, "counted") == {b"restarted": value}


def test_what_was_acknowledged_before_its_node_was_killed_is_seen_by_who_brings_its_cookie(both):
    """The other data centre may never have been sent it; who brings the cookie has it sent."""
    near = both.datacentres[HOME]

    async def story():
        async with playing(both) as play:
            here, there = play.askers.values()
            acknowledged = []
            some, killed = asyncio.Event(), asyncio.Event()

            async def write(number):
                while True:
                    request = put(b"burst %d" % number, b"%d" % len(acknowledged), namespace="homed")
                    try:
                        receipt = await here.put(request)
                    except Away:
                        if killed.is_set():
                            return
                        continue
                    acknowledged.append((request.record, request.item.value, receipt.cookie))
                    if len(acknowledged) == 40:
                        some.set()

            async with asyncio.TaskGroup() as writers:
                for number in range(4):
                    writers.create_task(write(number))
                await some.wait()
                near.node.kill()
                killed.set()
            await asyncio.to_thread(near.node.restart)
            newest = {record: (value, cookie) for record, value, cookie in acknowledged}
            for record, (value, cookie) in newest.items():
                least = int(value)
                seen = await patiently("a read with a cookie", there.get, "homed", record, cookie=cookie)
                # A write whose answer was lost may have come after the last acknowledged one.
                assert int(seen) >= least
                assert int(await patiently("a read at home", here.get, "homed", record)) >= int(seen)
                assert int(await patiently("a read", there.get, "homed", record, LOCAL.consistency)) >= least

    asyncio.run(story())
