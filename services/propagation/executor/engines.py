"""Several engines as one that gives work: each is asked, and told what became of what it lent.

An engine lends the work of the shards that it leads. All are asked at once; an answer that comes when another engine
was quicker is kept for the next call, for what is in it is lent already. So an executor may hold a batch of each engine
more than it asked for. What a shard lent is told to the engine that lent it last: a shard that moved refuses it there.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from google.rpc import status_pb2  # type: ignore[import-untyped]

from libs.telemetry.logs import fields
from services.propagation.executor.ports import Work
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import Unavailable, WellspringError

logger = logging.getLogger(__name__)

_SHARD_BITS = 48
"""Above them in a lease's number is the shard that lent it."""
_AGAIN_S = 1.0
"""An engine that could not be reached is left alone for so long."""
_EMPTY_S = 0.05
"""One that has no work, too: an engine that is stopping answers at once."""
_SOON_S = 1.0
"""So long the leases of all engines wait for one that does not say whether it has extended its own."""


class _Ask(NamedTuple):
    """A call under way: which engine, whether for first turns, for which views."""

    engine: int
    first: bool
    views: frozenset[str]


class EveryEngine:
    """See `ports.Work`. To be closed: what was lent and is not worked on is given back."""

    def __init__(self, engines: Sequence[Work]) -> None:
        self._engines = engines
        self._asks: dict[_Ask, asyncio.Task[work_pb2.LeaseResponse]] = {}
        self._extending: dict[int, asyncio.Task[work_pb2.ExtendResponse]] = {}
        self._lent_by: dict[int, int] = {}
        self._failed_until: dict[int, float] = {}
        self._empty_until: dict[int, float] = {}

    async def lease(self, request: work_pb2.LeaseRequest) -> work_pb2.LeaseResponse:
        """The first answer with work in it; an empty one when no engine has any within the time asked for.

        Raises what an engine raised when none could be asked.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + request.wait.ToNanoseconds() / 1e9
        views = frozenset(one.view for one in request.capacity)
        failure: WellspringError | None = None
        while True:
            self._ask_all(request, views)
            for ask in [ask for ask, task in self._asks.items() if ask.first == request.first_turns and task.done()]:
                try:
                    response = self._taken(ask)
                except WellspringError as error:
                    failure = error
                    continue
                if response.batches or response.views_revision != request.views_revision:
                    return response
            under_way = [task for ask, task in self._asks.items() if ask.first == request.first_turns]
            left_s = end_s - loop.time()
            if failure is not None and len(_still(self._failed_until, loop.time())) == len(self._engines):
                raise failure
            if left_s <= 0 and not any(task.done() for task in under_way):
                return work_pb2.LeaseResponse(views_revision=request.views_revision)
            await _any(under_way, max(0.0, min(left_s, _EMPTY_S if self._empty_until else _AGAIN_S)))

    def _ask_all(self, request: work_pb2.LeaseRequest, views: frozenset[str]) -> None:
        """Has a call under way at each engine that is not left alone."""
        loop = asyncio.get_running_loop()
        away = _still(self._failed_until, loop.time()) | _still(self._empty_until, loop.time())
        for number, engine in enumerate(self._engines):
            ask = _Ask(number, request.first_turns, views)
            if number not in away and ask not in self._asks:
                self._asks[ask] = loop.create_task(_lease(engine, request))

    def _taken(self, ask: _Ask) -> work_pb2.LeaseResponse:
        """The answer to a call that has ended, without batches whose time is over. Raises what the engine raised."""
        task = self._asks.pop(ask)
        try:
            response = task.result()
        except WellspringError as error:
            if isinstance(error, Unavailable):
                self._failed_until[ask.engine] = asyncio.get_running_loop().time() + _AGAIN_S
            logger.info("an engine did not give work", extra=fields(engine=ask.engine, reason=error.reason))
            raise
        now_ns = time.time_ns()
        late = [batch for batch in response.batches if batch.deadline.ToNanoseconds() < now_ns]
        for batch in late:
            response.batches.remove(batch)
        if not response.batches:
            self._empty_until[ask.engine] = asyncio.get_running_loop().time() + _EMPTY_S
        for batch in response.batches:
            self._lent_by[batch.lease_id >> _SHARD_BITS] = ask.engine
        return response

    async def complete(self, request: work_pb2.CompleteRequest) -> work_pb2.CompleteResponse:
        """Each where it was lent. Raises when no engine could be told."""
        parts: dict[int, work_pb2.CompleteRequest] = {}
        places: dict[int, list[int]] = {}
        for at, one in enumerate(request.completions):
            engine = self._lender(one.lease_id)
            parts.setdefault(engine, work_pb2.CompleteRequest()).completions.append(one)
            places.setdefault(engine, []).append(at)
        results = await self._each(self._complete, parts, places, work_pb2.CompleteResponse.Result)
        return work_pb2.CompleteResponse(results=results)

    async def extend(self, request: work_pb2.ExtendRequest) -> work_pb2.ExtendResponse:
        """As `complete`; with them the leases that wait here for the next call: nobody else extends those. An engine
        that does not answer soon is told of as away, and asked nothing more until it has answered."""
        kept = self._kept()
        held = [(self._lender(one.lease_id), one) for one in request.leases]
        held += [
            (engine, work_pb2.ExtendRequest.Held(lease_id=batch.lease_id, fencing=batch.fencing))
            for engine, batch in kept
        ]
        parts: dict[int, work_pb2.ExtendRequest] = {}
        places: dict[int, list[int]] = {}
        for at, (engine, one) in enumerate(held):
            parts.setdefault(engine, work_pb2.ExtendRequest()).leases.append(one)
            places.setdefault(engine, []).append(at)
        results = await self._each(self._extend, parts, places, work_pb2.ExtendResponse.Result)
        count = len(request.leases)
        for (_, batch), result in zip(kept, results[count:], strict=True):
            if not result.status.code:
                batch.deadline.CopyFrom(result.deadline)
        return work_pb2.ExtendResponse(results=results[:count])

    async def _complete(self, engine: int, request: work_pb2.CompleteRequest) -> work_pb2.CompleteResponse:
        return await self._engines[engine].complete(request)

    async def _extend(self, engine: int, request: work_pb2.ExtendRequest) -> work_pb2.ExtendResponse:
        if engine not in self._extending:
            task = asyncio.get_running_loop().create_task(_extend(self._engines[engine], request))
            self._extending[engine] = task
            task.add_done_callback(lambda done: self._extended(engine, done))
            done, _ = await asyncio.wait([task], timeout=_SOON_S)
            if done:
                return task.result()
        raise Unavailable("the engine has not said yet whether it extended its leases")

    def _extended(self, engine: int, done: "asyncio.Task[work_pb2.ExtendResponse]") -> None:
        del self._extending[engine]
        if not done.cancelled():
            done.exception()  # whoever waited no more is not told

    def _kept(self) -> list[tuple[int, work_pb2.Batch]]:
        """(engine, batch) of what came when another engine was quicker."""
        come = [
            (ask.engine, task.result())
            for ask, task in self._asks.items()
            if task.done() and not task.cancelled() and task.exception() is None
        ]
        return [(engine, batch) for engine, response in come for batch in response.batches]

    async def views(self) -> work_pb2.GetViewsResponse:
        """Of the first engine that answers, those that failed lately last. Raises when none does."""
        failure: WellspringError | None = None
        failed = _still(self._failed_until, asyncio.get_running_loop().time())
        for number in sorted(range(len(self._engines)), key=lambda number: number in failed):
            try:
                return await self._engines[number].views()
            except WellspringError as error:
                failure = error
        assert failure is not None
        raise failure

    async def close(self) -> None:
        """Ends what is under way, and gives back what it brought."""
        for task in (*self._asks.values(), *self._extending.values()):
            task.cancel()
        answers = await asyncio.gather(*self._asks.values(), return_exceptions=True)
        for ask, answer in zip(self._asks, answers, strict=True):
            batches = answer.batches if isinstance(answer, work_pb2.LeaseResponse) else []
            back = [
                work_pb2.Completion(lease_id=batch.lease_id, fencing=batch.fencing, released=batch.ids)
                for batch in batches
            ]
            if back:
                try:
                    await self._engines[ask.engine].complete(work_pb2.CompleteRequest(completions=back))
                except WellspringError as error:
                    logger.info("a lease was not given back: it ends by itself", extra=fields(reason=error.reason))
        self._asks.clear()

    def _lender(self, lease_id: int) -> int:
        return self._lent_by.get(lease_id >> _SHARD_BITS, 0)

    async def _each(
        self,
        call: Callable[[int, Any], Awaitable[Any]],
        parts: Mapping[int, Any],
        places: Mapping[int, Sequence[int]],
        made: type[Any],
    ) -> list[Any]:
        """The results in the order of the request; what an engine could not be told has its error."""
        results: list[Any] = [None] * sum(map(len, places.values()))
        failures: list[WellspringError] = []

        async def one(engine: int) -> None:
            try:
                answers = (await call(engine, parts[engine])).results
            except WellspringError as error:
                failures.append(error)
                status = status_pb2.Status(code=error.code, message=error.message)
                answers = [made(status=status)] * len(places[engine])
            for at, answer in zip(places[engine], answers, strict=True):
                results[at] = answer

        async with asyncio.TaskGroup() as group:
            for engine in parts:
                group.create_task(one(engine))
        if parts and len(failures) == len(parts):
            raise failures[0]
        return results


def _still(until_s: dict[int, float], now_s: float) -> set[int]:
    """The engines whose time is not over; the others are forgotten."""
    for number in [number for number, at_s in until_s.items() if at_s <= now_s]:
        del until_s[number]
    return set(until_s)


async def _lease(engine: Work, request: work_pb2.LeaseRequest) -> work_pb2.LeaseResponse:
    return await engine.lease(request)


async def _extend(engine: Work, request: work_pb2.ExtendRequest) -> work_pb2.ExtendResponse:
    return await engine.extend(request)


async def _any(tasks: "Sequence[asyncio.Task[work_pb2.LeaseResponse]]", seconds: float) -> None:
    """Until one of them has ended, at most so long."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    else:
        await asyncio.sleep(seconds)
