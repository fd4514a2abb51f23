"""Engines of a fleet as real processes on a real broker: they share the shards, and one serves all when others die."""

import asyncio
import json
from collections import Counter
from urllib.request import Request, urlopen

import grpc
import pytest

from libs.kafka.testing.broker import PATIENCE_S, create
from services.propagation.fleet.shards import SHARD_HEADER
from services.propagation.fleet.testing.executor import VIEWS, declaration
from services.propagation.simulation.processes import Process, Stubs, T, connected, edit
from tools.dev.servers.kafka import Kafka
from tools.dev.servers.ports import free_port
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed

SESSION_S = 15
SHARDS, PAGES, SUMMARIES = 4, 4_000, 400
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


def server(kafka, path, prefix, *settings, shards=SHARDS):
    brokers = f"bootstrap_servers: ['{kafka.address}'], topic_prefix: '{prefix}', group: {prefix}engines"
    log = f"kafka: {{{brokers}, replication: 1}}, shards: {shards}, session_timeout: {SESSION_S}s"
    backend = f"{{sharded: {{{log}, embedded: {{path: {path}, reserve_bytes: 0}}}}}}"
    return Process(path, *settings, backend=backend)


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


async def leads(stubs):
    """The shards that an engine leads now."""
    found = set()
    for shard in range(SHARDS):
        try:
            asked = stubs.admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=[(SHARD_HEADER, str(shard))])
            await asked
            found.add(shard)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.ABORTED, error
    return found


async def led_by(wanted):
    """Waits until each of the engines (by their stubs) leads so many shards."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = [len(await leads(stubs)) for stubs in wanted]
            if found == list(wanted.values()):
                return
            await asyncio.sleep(0.2)


async def lent(stubs, items=200, view="html"):
    """(page, batch) pairs of one lease."""
    capacity = [work_pb2.LeaseRequest.Capacity(view=view, items=items)]
    request = work_pb2.LeaseRequest(executor="test", capacity=capacity)
    return [(batch.names.decode().split("\0"), batch) for batch in (await stubs.work.Lease(request)).batches]


async def completed(stubs, batch):
    """The status of a completion of the whole batch."""
    hashes = b"".join(batch.rendered_version for _ in packed.decode_ids(batch.ids))
    completion = work_pb2.Completion(lease_id=batch.lease_id, fencing=batch.fencing, done=batch.ids, hashes=hashes)
    response = await stubs.work.Complete(work_pb2.CompleteRequest(completions=[completion]))
    return response.results[0].status.code


async def rendered(engines, done, pages):
    """Works at all engines until so many completions of pages are acknowledged."""
    async with asyncio.timeout(PATIENCE_S):
        while sum(done.values()) < pages:
            for stubs in engines:
                for names, batch in await lent(stubs):
                    assert await completed(stubs, batch) == 0
                    done.update(names)


async def summarised(engines, change_id):
    """Works at all engines until the root is done; answers how often each summary was rendered."""
    done = Counter()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for stubs in engines:
                for names, batch in await lent(stubs, view="summary"):
                    assert await completed(stubs, batch) == 0
                    done.update(names)
            root = await engines[0].propagation.GetChange(pb.GetChangeRequest(id=change_id))
            if root.state == pb.Root.STATE_DONE:
                assert root.progress.done == PAGES + SUMMARIES
                return done


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


async def rendered_over_moves(engines, done, finished):
    """Works at engines that come, go and give shards away, until that is so. Counts what was acknowledged."""
    async with asyncio.timeout(PATIENCE_S):
        while not await finished():
            for stubs in engines():
                try:
                    for names, batch in await lent(stubs):
                        code = await completed(stubs, batch)
                        assert code in (0, grpc.StatusCode.ABORTED.value[0], grpc.StatusCode.UNAVAILABLE.value[0])
                        done.update(names if code == 0 else ())
                except grpc.aio.AioRpcError as error:
                    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error


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
                        wanted = 0 if batch.lease_id >> 48 in kept else grpc.StatusCode.ABORTED.value[0]
                        assert code == wanted, "a shard that stays is kept meanwhile"
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
