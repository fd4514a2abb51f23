"""A shard's log as brokers keep it for an owner far away: records land late, in order, some of them twice; a new
owner's word fences the former one, which learns of that when it sends something.

What has landed is in the log, whether its sender hears of it or not. `fencing` off is a deliberate bug: brokers that
take what a former owner sends.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from libs.errors.errors import Unavailable
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.store.logged.memory_log import NoLongerOwner
from services.propagation.store.logged.place import Anchor
from services.propagation.store.logged.records import Position, owner_record

_ANSWERED = 0.7


@dataclass(slots=True)
class _Append:
    position: Position
    records: Sequence[bytes]
    future: "asyncio.Future[None]"
    landed: int = 0
    offset: int = -1
    is_word: bool = False


class LateLog:
    """`records[offset]`. `synced` is called when everything that the owner has applied is durable."""

    def __init__(self, rng: Random, faults: Callable[[], Faults], synced: Callable[[], None]) -> None:
        self.rng = rng
        self.faults = faults
        self.synced = synced
        self.records: list[bytes] = []
        self.owner: LateOwner | None = None
        self.fencing = True
        self.leaderless = False
        """Nothing lands meanwhile, and nobody is answered."""

    def take_over(self, position: Position, lost: Callable[[], None]) -> "LateOwner":
        """For the owner of `position`, which is behind all that it read. `lost` is called when it hears of another."""
        self.records.append(owner_record(position))
        self.owner = LateOwner(self, Anchor(position, len(self.records) - 1), lost)
        return self.owner


class LateOwner:
    """See `log.CommitLog`. One whose process was killed is told of nothing: `dead`."""

    def __init__(self, log: LateLog, anchor: Anchor, lost: Callable[[], None]) -> None:
        self._log = log
        self._lost = lost
        self._waiting: deque[_Append] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._failure: Unavailable | None = None
        self.dead = False
        self.still = False
        """Its process is stopped: it sends nothing, and hears of nothing."""
        self.anchor = anchor

    def check(self, size_bytes: int) -> None:
        """See `CommitLog.check`."""
        if self._failure is not None:
            raise self._failure

    def append(self, position: Position, records: Sequence[bytes]) -> "asyncio.Future[None]":
        """See `CommitLog.append`."""
        append = _Append(position, records, asyncio.get_running_loop().create_future())
        if self._failure is not None:
            append.future.set_exception(self._failure)
            append.future.exception()
        elif not records and not self._waiting:
            append.future.set_result(None)
        else:
            self._waiting.append(append)
            self._send()
        return append.future

    def barrier(self) -> "asyncio.Future[None]":
        """See `CommitLog.barrier`: the owner says its word again, which is refused to a former one."""
        done = self.append(self.anchor.position, [owner_record(self.anchor.position)])
        if self._waiting:
            self._waiting[-1].is_word = True
        return done

    async def close(self) -> None:
        """Nothing is closed in a simulation: processes are killed."""
        raise AssertionError("the log is never closed")

    def _send(self) -> None:
        if self._timer is None and self._waiting:
            wait_s = self._log.rng.expovariate(1 / max(self._log.faults().disk_slow_s, 1e-4))
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._arrive)

    def _arrive(self) -> None:
        """Some of it lands, and some of what has landed is answered."""
        self._timer = None
        log = self._log
        if log.leaderless or self.still:
            self._send()
            return
        if log.owner is not self and log.fencing:
            self._fail()
            return
        if log.rng.random() < log.faults().log_twice:
            # The leader changed between: all that was not answered is sent again.
            for append in self._waiting:
                append.landed = 0
        self._land()
        if not self.dead and log.rng.random() < _ANSWERED:
            self._answer()
        self._send()

    def _land(self) -> None:
        log = self._log
        left = sum(len(append.records) - append.landed for append in self._waiting)
        now = log.rng.randint(1, left) if left else 0
        for append in self._waiting:
            while now and append.landed < len(append.records):
                log.records.append(append.records[append.landed])
                append.landed += 1
                append.offset = len(log.records) - 1
                now -= 1

    def _answer(self) -> None:
        while self._waiting and self._waiting[0].landed == len(self._waiting[0].records):
            append = self._waiting.popleft()
            if append.records and not append.is_word:
                self.anchor = Anchor(append.position, append.offset)
            if not append.future.done():
                append.future.set_result(None)
        if not self._waiting and self._log.owner is self:
            self._log.synced()

    def _fail(self) -> None:
        self._failure = NoLongerOwner("another engine owns this shard now; this one appends nothing more")
        for append in self._waiting:
            if not append.future.done():
                append.future.set_exception(self._failure)
                append.future.exception()
        self._waiting.clear()
        self._lost()
