"""Storage, session and propagation under load behind each server engine, drained and killed: nothing acknowledged is
lost, and nothing is done twice."""

import asyncio
import datetime
import itertools
import random
import time
import uuid

import pytest

import wellspring_client
from tests.system.served import SERVICES, three_services
from tools.dev.servers.process import ServerError
from wellspring_client import aio

WAIT_S = 400


@pytest.fixture(scope="module", params=["grpcio", "native"])
def site(request, tmp_path_factory):
    """The three services behind one engine."""
    with three_services(tmp_path_factory.mktemp(request.param), request.param) as site:
        yield site


@pytest.mark.parametrize("end", ["drain", "kill"])
@pytest.mark.parametrize("service", SERVICES)
def test_no_acknowledged_write_is_lost_when_a_server_ends_under_load(site, service, end):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    asyncio.run(_end_under_load(site[service], service, end, random.Random(seed)))


async def _end_under_load(served, service, end, rng):
    """Eight writers go on over two ends of the server; each sends a write that failed again, as the same write."""
    acknowledged, refused, stop = [], set(), asyncio.Event()
    run = f"{end}-{time.time_ns()}"
    async with aio.connect(**{service: served.address}, timeout=WAIT_S) as client:
        load = LOADS[service](client, run)
        await load.prepare()

        async def write(writer):
            for number in itertools.count():
                if stop.is_set():
                    return
                identity = load.identity(f"{writer}-{number}")
                while True:
                    try:
                        acknowledged.append((f"{writer}-{number}", await load.write(f"{writer}-{number}", identity)))
                        break
                    except wellspring_client.Unavailable as error:
                        refused.add(error.reason)

        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            for writer in range(8):
                tasks.create_task(write(writer))
            for _ in range(2):
                await _grown(acknowledged, rng.randrange(30, 90))
                await asyncio.to_thread(getattr(served, end))
                with pytest.raises(ServerError, match="exit code 0" if end == "drain" else "exit code -9"):
                    _ = served.process.pid
                await asyncio.to_thread(served.start)
            await _grown(acknowledged, 30)
            stop.set()
        print(f"{len(acknowledged)} acknowledged; refusals: {sorted(refused)}")
        await load.verify(dict(acknowledged))


async def _grown(acknowledged, by):
    wanted = len(acknowledged) + by
    while len(acknowledged) < wanted:  # noqa: ASYNC110  (a count of another task's)
        await asyncio.sleep(0.005)


class StorageLoad:
    """Creates records, each once."""

    def __init__(self, client, run):
        self._client = client
        self._notes = client.storage.namespace(run)

    async def prepare(self):
        await self._client.storage.create_namespace(self._notes.name, mode="CAS")

    def identity(self, name):
        return self._notes.new_token()

    async def write(self, name, token):
        return (await self._notes.put(name, name.encode(), if_absent=True, token=token)).version

    async def verify(self, acknowledged):
        found = [record async for record in self._notes.scan()]
        kept = {record.key.decode(): record.items[0].version for record in found}
        assert {name: kept.get(name) for name in acknowledged} == acknowledged
        events = []
        async for answer in self._notes.watch(from_beginning=True, heartbeat=datetime.timedelta(seconds=1)):
            events += [event.record.decode() for event in answer.events]
            if len(events) >= len(kept):
                break
        assert sorted(events) == sorted(kept)


class SessionLoad:
    """Creates sessions, each of a subject of its own."""

    def __init__(self, client, run):
        self._realm = client.session.realm("web")
        self._run = run

    async def prepare(self):
        pass

    def identity(self, name):
        return str(uuid.uuid4())

    async def write(self, name, request_id):
        minted = await self._realm.create(f"{self._run}-{name}", request_id=request_id)
        return minted.token, minted.session.handle

    async def verify(self, acknowledged):
        async def check(name, token, handle):
            assert (await self._realm.validate(token)).session.handle == handle
            assert [one.handle async for one in self._realm.list_by_subject(f"{self._run}-{name}")] == [handle]

        await asyncio.gather(*(check(name, *session) for name, session in acknowledged.items()))


class PropagationLoad:
    """Publishes changes, each with an id of its own."""

    def __init__(self, client, run):
        self._propagation = client.propagation
        self._run = run

    async def prepare(self):
        pass

    def identity(self, name):
        return f"{self._run}-{name}", time.time_ns().to_bytes(16, "big")

    async def write(self, name, identity):
        change_id, version = identity
        return (await self._propagation.change(f"template/{change_id}", version, id=change_id)).sequence

    async def verify(self, acknowledged):
        for name, sequence in acknowledged.items():
            assert (await self._propagation.get_change(f"{self._run}-{name}")).sequence == sequence
        assert len(set(acknowledged.values())) == len(acknowledged)


LOADS = {"storage": StorageLoad, "session": SessionLoad, "propagation": PropagationLoad}
