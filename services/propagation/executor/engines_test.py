"""Several engines as one: each is asked and told its own, what comes late is kept, one that is away holds up none."""

import asyncio
import time

import pytest
from google.protobuf.duration_pb2 import Duration

from services.propagation.executor import engines
from services.propagation.executor.engines import EveryEngine
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import Unavailable


class Engine:
    """Lends `batches` when it is told to; `away` answers nothing."""

    def __init__(self, shard=0):
        self.shard = shard
        self.lent = 0
        self.work = asyncio.Event()
        self.away = False
        self.asked = 0
        self.asked_twice = asyncio.Event()
        self.has_lent = asyncio.Event()
        self.lent_for_ns = 10**12
        self.completed = []
        self.extended = []
        self.extending = 0
        self.moves = asyncio.Event()
        self.moves.set()

    async def lease(self, request):
        self.asked += 1
        if self.asked == 2:
            self.asked_twice.set()
        self._check()
        try:
            async with asyncio.timeout(request.wait.ToNanoseconds() / 1e9):
                await self.work.wait()
        except TimeoutError:
            return work_pb2.LeaseResponse(views_revision=request.views_revision)
        self._check()
        self.lent += 1
        self.has_lent.set()
        batch = work_pb2.Batch(lease_id=self.shard << 48 | self.lent, view=request.capacity[0].view)
        batch.deadline.FromNanoseconds(time.time_ns() + self.lent_for_ns)
        return work_pb2.LeaseResponse(batches=[batch], views_revision=request.views_revision)

    async def complete(self, request):
        self._check()
        self.completed += [one.lease_id for one in request.completions]
        results = [work_pb2.CompleteResponse.Result(accepted=self.shard) for _ in request.completions]
        return work_pb2.CompleteResponse(results=results)

    async def extend(self, request):
        self.extending += not self.moves.is_set()
        await self.moves.wait()
        self._check()
        self.extended += [one.lease_id for one in request.leases]
        response = work_pb2.ExtendResponse()
        for _ in request.leases:
            response.results.add().deadline.FromNanoseconds(time.time_ns() + 10**12)
        return response

    async def views(self):
        self._check()
        return work_pb2.GetViewsResponse(revision=self.shard)

    def _check(self):
        if self.away:
            raise Unavailable("gone")


def asked(*views, first=False, wait_s=5.0):
    capacity = [work_pb2.LeaseRequest.Capacity(view=view, items=10) for view in views or ("html",)]
    wait = Duration()
    wait.FromNanoseconds(int(wait_s * 1e9))
    return work_pb2.LeaseRequest(executor="x", capacity=capacity, wait=wait, first_turns=first)


def told(*batches):
    return work_pb2.CompleteRequest(completions=[work_pb2.Completion(lease_id=one.lease_id) for one in batches])


def run(test, count=2):
    async def main():
        lenders = [Engine(shard) for shard in range(count)]
        every = EveryEngine(lenders)
        try:
            async with asyncio.timeout(60):
                await test(every, *lenders)
        finally:
            await every.close()

    asyncio.run(main())


def test_work_of_each_engine_is_given_and_told_where_it_was_lent():
    async def test(every, one, other):
        one.work.set()
        other.work.set()
        batches = []
        while len({batch.lease_id >> 48 for batch in batches}) < 2:
            batches += (await every.lease(asked())).batches
        response = await every.complete(told(*batches))
        assert [result.accepted for result in response.results] == [batch.lease_id >> 48 for batch in batches]
        for engine in (one, other):
            assert set(engine.completed) == {one.lease_id for one in batches if one.lease_id >> 48 == engine.shard}
        held = [work_pb2.ExtendRequest.Held(lease_id=batch.lease_id) for batch in batches]
        await every.extend(work_pb2.ExtendRequest(leases=held))
        for engine in (one, other):
            assert set(engine.completed) <= set(engine.extended), "and what is kept"

    run(test)


def test_what_comes_late_is_kept_and_what_nobody_took_is_given_back():
    async def test(every, one, other):
        one.work.set()
        assert (await every.lease(asked("html"))).batches[0].lease_id >> 48 == 0
        other.work.set()
        one.work.clear()
        # The call that has waited since is answered, though another view is asked for now.
        await other.has_lent.wait()
        late = (await every.lease(asked("summary"))).batches
        while late[0].lease_id >> 48 != 1:
            late = (await every.lease(asked("summary"))).batches
        assert late[0].view == "html"
        lent = {1 << 48 | number for number in range(1, other.lent + 1)}
        taken = {late[0].lease_id}
        await every.close()
        lent |= {1 << 48 | number for number in range(1, other.lent + 1)}
        assert set(other.completed) | taken == lent

    run(test)


@pytest.mark.parametrize("told", [True, False])
def test_what_is_kept_is_held_for_as_long_as_the_executor_lives(told):
    async def test(every, one, other):
        other.lent_for_ns = -1
        one.work.set()
        (first,) = (await every.lease(asked("html"))).batches
        assert first.lease_id >> 48 == 0
        one.work.clear()
        other.work.set()
        await other.has_lent.wait()
        other.work.clear()
        kept = 1 << 48 | 1
        if told:
            held = [work_pb2.ExtendRequest.Held(lease_id=first.lease_id)]
            assert len((await every.extend(work_pb2.ExtendRequest(leases=held))).results) == 1
            assert one.extended == [first.lease_id] and other.extended == [kept]
        one.work.set()
        given = [batch.lease_id for _ in range(2) for batch in (await every.lease(asked("html"))).batches]
        assert (kept in given) == told, "one whose time is over is not begun"

    run(test)


def test_an_engine_that_is_away_holds_up_no_other_and_is_asked_again():
    async def test(every, one, other):
        one.away = True
        other.work.set()
        for _ in range(3):
            batches = (await every.lease(asked())).batches
            assert batches[0].lease_id >> 48 == 1
        assert (await every.views()).revision == 1
        one.away = False
        one.work.set()
        seen = set()
        while seen != {0, 1}:
            seen |= {batch.lease_id >> 48 for batch in (await every.lease(asked())).batches}

    run(test)


def test_a_completion_that_cannot_be_told_is_an_error_of_its_own():
    async def test(every, one, other):
        one.work.set()
        other.work.set()
        batches = {}
        while len(batches) < 2:
            batches |= {batch.lease_id >> 48: batch for batch in (await every.lease(asked())).batches}
        one.away = True
        response = await every.complete(told(batches[0], batches[1]))
        assert [result.status.code for result in response.results] == [14, 0]
        with pytest.raises(Unavailable):
            await every.complete(told(batches[0]))

    run(test)


def test_an_engine_that_stands_still_costs_the_others_no_lease(monkeypatch):
    monkeypatch.setattr(engines, "_SOON_S", 0.01)

    async def test(every, one, other):
        held = [work_pb2.ExtendRequest.Held(lease_id=engine.shard << 48 | 7) for engine in (one, other)]
        for engine in (one, other):
            engine.work.set()
        seen = set()
        while seen != {0, 1}:
            seen |= {batch.lease_id >> 48 for batch in (await every.lease(asked())).batches}
        other.moves.clear()
        for _ in range(3):
            response = await every.extend(work_pb2.ExtendRequest(leases=held))
            assert [result.status.code for result in response.results] == [0, Unavailable.code]
        assert one.extended.count(7) == 3 and other.extending == 1, "who has not answered is not asked again"
        other.moves.set()
        monkeypatch.setattr(engines, "_SOON_S", 60.0)
        while any(result.status.code for result in response.results):
            response = await every.extend(work_pb2.ExtendRequest(leases=held))

    run(test)


def test_when_no_engine_is_there_it_is_said_and_no_work_is_no_error():
    async def test(every, one, other):
        assert not (await every.lease(asked(wait_s=0.1))).batches
        one.away = other.away = True
        with pytest.raises(Unavailable):
            while True:
                await every.lease(asked(wait_s=0.1))
        with pytest.raises(Unavailable):
            await every.views()

    run(test)


def test_first_turns_are_calls_of_their_own():
    async def test(every, one, other):
        ordinary = asyncio.create_task(every.lease(asked()))
        first = asyncio.create_task(every.lease(asked(first=True)))
        await one.asked_twice.wait()
        await other.asked_twice.wait()
        one.work.set()
        assert (await ordinary).batches and (await first).batches

    run(test)
