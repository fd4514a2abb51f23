"""Engines of a fleet as real processes on a real broker: they share the shards, and one serves all when others die."""

import asyncio
import itertools
import json
import shutil
from collections import Counter
from urllib.request import Request, urlopen

import grpc
import pytest

import wellspring_client.aio
from libs.kafka.testing.broker import PATIENCE_S, create, delete
from services.propagation.fleet.testing.engines import (
    PAGES,
    SHARDS,
    SUMMARIES,
    completed,
    grown,
    leads,
    led_by,
    lent,
    rendered,
    rendered_over_moves,
    server,
    summarised,
)
from services.propagation.fleet.testing.executor import VIEWS, declaration
from services.propagation.simulation.processes import Process, Stubs, T, connected, edit
from tools.dev.servers.kafka import Kafka
from tools.dev.servers.ports import free_port
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb

EVENTS = 10
LONG_LEASES = VIEWS.replace("store: {namespace: html}", "store: {namespace: html}\n    lease_time: 10m")
RULES = """
rules:
  edits:
    topic: told
    exec: {uri: /sys/changes, body: {resource: 'w/other/{{message.data.n}}', version: 1}}
"""


@pytest.fixture(scope="module")
def kafka():
    with Kafka() as kafka:
        yield kafka


def events(kafka, port):
    """Settings of an engine that reads the topic `told`, and takes events for it at the port."""
    brokers = f"kafka: {{bootstrap_servers: ['{kafka.address}']}}"
    return f"events={{{brokers}, topics: [told], http: {{listen: ['127.0.0.1:{port}'], topics: [told]}}}}"


def tell(port, first):
    """Has so many events taken from this number on; the ids of the changes that rules make of them."""
    numbers = range(first, first + EVENTS)
    for number in numbers:
        event = {"specversion": "1.0", "id": str(number), "source": "https://a.example", "type": "t"}
        body = json.dumps(event | {"data": {"n": number}}).encode()
        headers = {"Content-Type": "application/cloudevents+json"}
        with urlopen(Request(f"http://127.0.0.1:{port}/events/told", body, headers), timeout=60) as answer:
            assert answer.status == 204
    return {f"edits/{number}" for number in numbers}


async def accepted(stubs, ids):
    """Waits until these changes are in all shards; each is there once."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            roots = (await stubs.propagation.ListChanges(pb.ListChangesRequest(page_size=1000))).roots
            found = Counter(root.change.id for root in roots if root.change.id.startswith("edits/"))
            if set(found) == ids:
                assert set(found.values()) == {1}
                return
            await asyncio.sleep(0.2)


def test_engines_share_shards_and_one_serves_them_all_when_the_other_is_killed(kafka, tmp_path):
    async def main():
        create(kafka, "told")
        rules, killed_port, port = tmp_path / "rules.yaml", free_port(), free_port()
        rules.write_text(RULES)
        first = server(kafka, tmp_path / "a", "shared.", events(kafka, killed_port), f"rules_file={rules}")
        second = server(kafka, tmp_path / "b", "shared.", events(kafka, port), f"rules_file={rules}")
        done, ids = Counter(), set()
        try:
            await asyncio.to_thread(first.start)
            await asyncio.to_thread(second.start)
            async with connected(first) as to_first, connected(second) as to_second:
                one, other = Stubs(to_first), Stubs(to_second)
                await other.admin.PutViews(admin_pb2.PutViewsRequest(yaml=VIEWS))
                sets = {f"w/page/{at:06}": [T] for at in range(PAGES)}
                await one.propagation.DeclareDependencies(
                    pb.DeclareDependenciesRequest(packed=[declaration("html", sets)])
                )
                summaries = {f"w/page/{at:06}": [f"view/html/w/page/{at + 1:06}"] for at in range(SUMMARIES)}
                await led_by({one: SHARDS // 2, other: SHARDS // 2})
                await other.propagation.DeclareDependencies(
                    pb.DeclareDependenciesRequest(packed=[declaration("summary", summaries)])
                )
                await edit(other, 1)
                await rendered([one, other], done, PAGES // 4)
                counted = await one.propagation.CountDependents(pb.CountDependentsRequest(resource=T))
                assert counted.total == PAGES
                own_before = await leads(other)
                held = [batch for stubs in (one, other) for _, batch in await lent(stubs, 50)]
                assert len({batch.lease_id >> 48 for batch in held}) == 2, "each lends of its own"
                # Events come to the engine that stays, and the other one runs the rules.
                if 0 in own_before:
                    first, second, one, other, port = second, first, other, one, killed_port
                    own_before = await leads(other)
                ids |= await asyncio.to_thread(tell, port, 0)
                await accepted(other, ids)
                ids |= await asyncio.to_thread(tell, port, EVENTS)
                first.kill()
                ids |= await asyncio.to_thread(tell, port, 2 * EVENTS)
                await led_by({other: SHARDS})
                await accepted(other, ids)
                statuses = sorted([await completed(other, batch) for batch in held])
                assert statuses == [0, grpc.StatusCode.ABORTED.value[0]], "a lease of the dead one is dead"
                for batch in held:
                    if batch.lease_id >> 48 in own_before:
                        done.update(batch.names.decode().split("\0"))
                await rendered([other], done, PAGES)
                assert set(done.values()) == {1}, "nothing is lost, and nothing that was acknowledged is done again"
                # Their pages are of other shards mostly, which were led by the dead one when these were asked for.
                assert await summarised([other], "edit1") == Counter(dict.fromkeys(summaries, 1))
                await asyncio.to_thread(first.start)
                async with connected(first) as again:
                    back = Stubs(again)
                    await led_by({back: SHARDS // 2, other: SHARDS // 2})
                    ids |= await asyncio.to_thread(tell, port, 3 * EVENTS)
                    await accepted(back, ids)
                    await edit(back, 2)
                    await rendered([back, other], done, 2 * PAGES)
                    assert set(done.values()) == {2}
                    assert await summarised([back, other], "edit2") == Counter(dict.fromkeys(summaries, 1))
                    status = await back.admin.GetStatus(admin_pb2.GetStatusRequest())
                    assert (status.pending, status.leased, status.edges) == (0, 0, PAGES + SUMMARIES)
                assert (await asyncio.to_thread(second.stop))[0] == 0
        finally:
            first.kill()
            second.kill()

    asyncio.run(main())


def test_an_engine_is_added_and_another_one_stopped_while_a_root_is_rendered(kafka, tmp_path):
    async def main():
        first, second = (server(kafka, tmp_path / name, "drained.") for name in "ab")
        done = Counter()
        try:
            await asyncio.to_thread(first.start)
            async with connected(first) as to_first:
                one = Stubs(to_first)
                await one.admin.PutViews(admin_pb2.PutViewsRequest(yaml=LONG_LEASES))
                sets = {f"w/page/{at:06}": [T] for at in range(PAGES)}
                await one.propagation.DeclareDependencies(
                    pb.DeclareDependenciesRequest(packed=[declaration("html", sets)])
                )
                await edit(one, 1)
                await rendered([one], done, PAGES // 4)
                held = [pair for _ in range(SHARDS) for pair in await lent(one, 20)]
                assert {batch.lease_id >> 48 for _, batch in held} == set(range(SHARDS)), "shards have turns"
                await asyncio.to_thread(second.start)
                async with connected(second) as to_second:
                    other = Stubs(to_second)
                    here = [one, other]

                    async def shared():
                        return len(await leads(one)) == len(await leads(other)) == SHARDS // 2

                    async def over():
                        root = await other.propagation.GetChange(pb.GetChangeRequest(id="edit1"))
                        return root.state == pb.Root.STATE_DONE

                    # A root that is done before the shards have moved would show nothing: it waits meanwhile.
                    await one.propagation.Pause(pb.PauseRequest(id="edit1"))
                    await rendered_over_moves(lambda: here, done, shared)
                    kept = await leads(one)
                    for names, batch in held:
                        code = await completed(one, batch)
                        assert (code == 0) == (batch.lease_id >> 48 in kept), "a shard that stays is kept meanwhile"
                        # Whoever is asked may not know yet where the others are led.
                        assert code in (0, grpc.StatusCode.ABORTED.value[0], grpc.StatusCode.UNAVAILABLE.value[0])
                        done.update(names if code == 0 else ())
                    await other.propagation.Resume(pb.ResumeRequest(id="edit1"))
                    await rendered([one, other], done, PAGES // 2)
                    here.remove(one)
                    stopping = asyncio.create_task(asyncio.to_thread(first.stop))
                    await rendered_over_moves(lambda: here, done, over)
                    assert (await stopping)[0] == 0
                    root = await other.propagation.GetChange(pb.GetChangeRequest(id="edit1"))
                    assert root.progress.done == root.progress.total == PAGES
                    assert done == Counter(dict.fromkeys(sets, 1)), "each page once, whoever led it"
        finally:
            first.kill()
            second.kill()

    asyncio.run(main())


def test_shards_grow_while_a_root_is_rendered_and_an_engine_is_killed(kafka, tmp_path):
    async def main():
        first, second, third = (server(kafka, tmp_path / name, "grown.", shards=2) for name in "abc")
        done, here = Counter(), []
        try:
            await asyncio.to_thread(first.start)
            await asyncio.to_thread(second.start)
            async with connected(first) as to_first, connected(second) as to_second:
                one, other = Stubs(to_first), Stubs(to_second)
                here += [one, other]
                await other.admin.PutViews(admin_pb2.PutViewsRequest(yaml=VIEWS))
                sets = {f"w/page/{at:06}": [T] for at in range(PAGES)}
                summaries = {f"w/page/{at:06}": [f"view/html/w/page/{at + 1:06}"] for at in range(SUMMARIES)}
                declared = [declaration("html", sets)]
                await one.propagation.DeclareDependencies(pb.DeclareDependenciesRequest(packed=declared))
                declared = [declaration("summary", summaries)]
                await one.propagation.DeclareDependencies(pb.DeclareDependenciesRequest(packed=declared))
                await led_by({one: 1, other: 1})
                await edit(other, 1)
                await rendered(here, done, PAGES // 4)
                for wrong in (2, 3, 66):
                    with pytest.raises(grpc.aio.AioRpcError, match=r"4, 6, 8"):
                        await one.admin.GrowShards(admin_pb2.GrowShardsRequest(shards=wrong))
                await one.admin.GrowShards(admin_pb2.GrowShardsRequest(shards=4, validate_only=True))
                assert (await one.admin.GetShards(admin_pb2.GetShardsRequest())).shards.growing_to == 0
                asked = await one.admin.GrowShards(admin_pb2.GrowShardsRequest(shards=4))
                assert asked.shards.growing_to == 4
                here.remove(one)
                first.kill()

                async def over():
                    try:
                        root = await other.propagation.GetChange(pb.GetChangeRequest(id="edit1"), timeout=5)
                        return root.progress.done == PAGES
                    except grpc.aio.AioRpcError as error:
                        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), error

                await rendered_over_moves(lambda: here, done, over)
                assert done == Counter(dict.fromkeys(sets, 1)), "each page once, whichever its shard was"
                await grown([other], 4)
                await summarised([other], "edit1")
                await asyncio.to_thread(first.start)
                await asyncio.to_thread(third.start)
                async with connected(first) as again, connected(third) as to_third:
                    back, new = Stubs(again), Stubs(to_third)
                    await grown([back, new, other], 4)
                    # Whoever a busy machine kept from speaking has given its own up.
                    async with asyncio.timeout(PATIENCE_S):
                        while sorted([len(await leads(stubs)) for stubs in (back, new, other)]) != [1, 1, 2]:  # noqa: ASYNC110
                            await asyncio.sleep(0.2)
                    await edit(new, 1)
                    await edit(new, 2)
                    await rendered([back, new, other], done, 2 * PAGES)
                    assert set(done.values()) == {2}
                    assert await summarised([back, new, other], "edit2") == Counter(dict.fromkeys(summaries, 1))
                    status = await new.admin.GetStatus(admin_pb2.GetStatusRequest())
                    assert (status.pending, status.leased, status.edges) == (0, 0, PAGES + SUMMARIES)
        finally:
            for engine in (first, second, third):
                engine.kill()

    asyncio.run(main())


def test_one_shard_becomes_two_and_its_log_is_needed_until_both_have_their_snapshots(kafka, tmp_path):
    async def main():
        async with wellspring_client.aio.connect(storage=storage.address, timeout=PATIENCE_S) as client:
            await client.storage.create_namespace("snapshots")
        place = f"storage: {{addresses: ['{storage.address}'], timeout: 60s}}, namespace: snapshots, interval: 1s"
        more = f", snapshots: {{{place}}}"
        alone = server(kafka, tmp_path / "a", "one.", shards=1, more=more)
        engine = server(kafka, tmp_path / "a", "one.", shards=8, more=more)
        done = Counter()
        sets = {f"w/page/{at:06}": [T] for at in range(PAGES)}
        try:
            await asyncio.to_thread(alone.start)
            async with connected(alone) as channel:
                stubs = Stubs(channel)
                with pytest.raises(grpc.aio.AioRpcError, match="this engine works alone"):
                    await stubs.admin.GrowShards(admin_pb2.GrowShardsRequest(shards=2))
                await stubs.admin.PutViews(admin_pb2.PutViewsRequest(yaml=VIEWS))
                declared = [declaration("html", sets)]
                await stubs.propagation.DeclareDependencies(pb.DeclareDependenciesRequest(packed=declared))
                await edit(stubs, 1)
                await rendered([stubs], done, PAGES // 4)
            assert (await asyncio.to_thread(alone.stop))[0] == 0
            await asyncio.to_thread(engine.start)
            async with connected(engine) as channel:
                stubs = Stubs(channel)
                await grown([stubs], 1)
                await stubs.admin.GrowShards(admin_pb2.GrowShardsRequest(shards=2))
                await grown([stubs], 2)
                needed = {0, 1}
                for version in itertools.count(2):
                    # Whoever writes gets a snapshot in each interval.
                    await edit(stubs, version)
                    state = (await stubs.admin.GetShards(admin_pb2.GetShardsRequest())).shards
                    assert set(state.former_log_needed_by) <= needed
                    if not state.former_log_needed_by:
                        break
                    needed = set(state.former_log_needed_by)
                    await asyncio.sleep(0.2)
            engine.kill()
            with pytest.raises(AssertionError, match=r"goes on as 2: backend\.sharded\.shards must be above 1"):
                await asyncio.to_thread(server(kafka, tmp_path / "b", "one.", shards=1, more=more).start)
            await asyncio.to_thread(delete, kafka, "one.propagation.shard-log")
            shutil.rmtree(tmp_path / "a")
            await asyncio.to_thread(engine.start)
            async with connected(engine) as channel:
                stubs = Stubs(channel)
                await grown([stubs], 2)
                done.clear()
                await rendered([stubs], done, PAGES)
                assert done == Counter(dict.fromkeys(sets, 1))
                status = await stubs.admin.GetStatus(admin_pb2.GetStatusRequest())
                assert (status.pending, status.edges) == (0, PAGES)
        finally:
            alone.kill()
            engine.kill()

    storage = Process(tmp_path / "storage")
    storage.command[2] = "services.storage.main"
    storage.start()
    try:
        asyncio.run(main())
    finally:
        storage.kill()
