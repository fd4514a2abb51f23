"""The executor of the fan-out bench: a process that leases, decodes the names and completes, and renders nothing.

It says what happens on standard output, a JSON object a line; times are of the clock that all processes of a machine
share (CLOCK_MONOTONIC). When the engine dies, it asks again until there is one, as any executor does.

python -m tools.bench.fanout_executor --address HOST:PORT --change ID --resources 2000 --dependents 1000 --out FILE
"""

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import uvloop

from tools.bench.fanout_world import NAME_DIGITS, PAGE_PREFIX, VIEW, WIDE, Bits
from tools.dev.servers import ports
from wellspring.propagation.v1 import propagation_pb2, work_pb2
from wellspring_client import aio, packed
from wellspring_client.errors import DeadlineExceeded, Unavailable, WellspringError

BATCH_ITEMS = 16_384
UNDER_WAY = 4
"""Batches leased or completed at once, as many as an executor's `slices` by default: while one waits until it is
durable, the engine is not to wait for the next."""
BURST_ITEMS = 8 * BATCH_ITEMS
"""Leased at first without completing any, which tells how fast leases alone are."""
_WAIT_S = 20
_NAME_BYTES = len(PAGE_PREFIX) + NAME_DIGITS


def say(event: str, **more: Any) -> None:
    """One line for the bench."""
    print(json.dumps({"event": event, "at_s": time.monotonic(), **more}), flush=True)


@dataclass
class Told:
    """What was leased and completed, by the number in the page's name."""

    resources: int
    rendered: Bits = field(init=False)
    done: Bits = field(init=False)
    rendered_twice: int = 0
    given_up: int = 0
    """Renders of which no completion was acknowledged, because the engine died."""
    done_again: int = 0

    def __post_init__(self) -> None:
        self.rendered = Bits(self.resources)
        self.done = Bits(self.resources)


class Executor:
    """Leases until the change is done, which is to make `dependents` resources pending.

    `others` are engines that share the shards with the one at `address`: each is asked for what it leads.
    """

    def __init__(
        self,
        address: str,
        change: str,
        resources: int,
        dependents: int,
        seed: int,
        engine_dies: bool,
        successor: str,
        others: Sequence[str] = (),
    ) -> None:
        self._address = address
        self._successor = successor or address
        self._change = change
        self._dependents = dependents
        # A small run has enough batches, too, for its engine to be killed between them.
        self._batch_items = min(BATCH_ITEMS, max(1, dependents // 8))
        self._engine_dies = engine_dies
        self._client = aio.connect(propagation=address, timeout=_WAIT_S + 10)
        self._others = [aio.connect(propagation=other, timeout=_WAIT_S + 10) for other in others]
        self._salt = np.uint64(seed * 2_654_435_761 + 1)
        self.told = Told(resources)
        self._life = 0
        self._epoch = 0
        # Clients of engines that died: another worker's call may still be under way there.
        self._left: list[aio.Client] = []
        self._mending: asyncio.Task[None] | None = None
        self._half_told = False
        self._first_told = False
        self._over = False
        self._last_done_s = 0.0

    async def run(self, burst: int) -> None:
        """Everything, to the end."""
        await self._learn_epoch()
        say("ready")
        waiting = asyncio.Queue[work_pb2.LeaseResponse]()
        for response in await self.lease_burst(burst):
            waiting.put_nowait(response)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(UNDER_WAY):
                tasks.create_task(self._work(waiting))
                for other in self._others:
                    tasks.create_task(self._work_beside(other))
        told = self.told
        say(
            "over",
            last_done_at_s=self._last_done_s,
            rendered=told.rendered.count,
            done=told.done.count,
            rendered_twice=told.rendered_twice,
            given_up=told.given_up,
            done_again=told.done_again,
        )
        for client in (*self._left, *self._others, self._client):
            await client.close()

    async def lease_burst(self, most: int) -> list[work_pb2.LeaseResponse]:
        """Leases so many items without completing any, or what there is: an engine that shares the shards may have
        less, and what it lends ends while more is waited for."""
        leased, began_s = [await self._lease(burst=True)], time.monotonic()
        items, seconds = 0, 1e-9
        while items < most:
            response = await self._lease()
            if not response.batches:
                break
            leased.append(response)
            items += sum(len(batch.ids) // 4 for batch in response.batches)
            seconds = time.monotonic() - began_s
        say("burst", items=items, seconds=seconds)
        return leased

    async def _work(self, waiting: asyncio.Queue[work_pb2.LeaseResponse]) -> None:
        while not self._over:
            life = self._life
            try:
                response = waiting.get_nowait() if not waiting.empty() else await self._lease()
                if not response.batches:
                    await self._look_whether_over()
                for batch in response.batches:
                    await self._complete(batch, life)
            except (Unavailable, DeadlineExceeded):
                while not waiting.empty():
                    waiting.get_nowait()
                await self._mend(life)

    async def _work_beside(self, engine: aio.Client) -> None:
        while not self._over:
            response = await self._lease(engine=engine)
            if not response.batches:
                await self._look_whether_over()
            for batch in response.batches:
                await self._complete(batch, self._life, engine)

    async def _look_whether_over(self) -> None:
        root = await self._client.propagation.get_change(self._change)
        self._over = root.state not in (propagation_pb2.Root.STATE_ACTIVE, propagation_pb2.Root.STATE_PAUSED)

    async def _lease(self, burst: bool = False, engine: aio.Client | None = None) -> work_pb2.LeaseResponse:
        request = work_pb2.LeaseRequest(executor="bench")
        request.capacity.add(view=VIEW, items=self._batch_items)
        left = self._dependents - self.told.done.count
        # Of several engines one may have no more while another has: the end is looked for often.
        patient = burst or (not self._others and left > UNDER_WAY * self._batch_items)
        request.wait.FromMilliseconds(_WAIT_S * 1000 if patient else 100)
        response = await (engine or self._client).propagation.work.lease(request)
        if response.batches and not self._first_told:
            self._first_told = True
            say("first_lease")
        return response

    async def _complete(self, batch: work_pb2.Batch, life: int, engine: aio.Client | None = None) -> None:
        pages = self._decode(batch)
        told = self.told
        told.rendered_twice += told.rendered.add(pages)
        try:
            await self._acknowledge(batch, pages, life, engine or self._client)
        except (Unavailable, DeadlineExceeded):
            told.given_up += len(pages)
            raise
        told.done_again += told.done.add(pages)
        self._last_done_s = time.monotonic()
        if not self._half_told and told.done.count >= self._dependents // 2:
            self._half_told = True
            say("half", done=told.done.count)

    async def _acknowledge(
        self, batch: work_pb2.Batch, pages: npt.NDArray[np.int64], life: int, engine: aio.Client
    ) -> None:
        await self._let_the_engine_die(life)
        request = work_pb2.CompleteRequest()
        request.completions.add(
            lease_id=batch.lease_id,
            fencing=batch.fencing,
            done=batch.ids,
            hashes=self._hashes(pages),
            renderer_seconds=1e-6 * len(pages),
        )
        response = await engine.propagation.work.complete(request)
        result = response.results[0]
        if result.HasField("status"):
            await self._check_alive(life)
        if result.HasField("status") or result.accepted != len(pages):
            raise WellspringError(f"a completion was not accepted: {result}")

    async def _let_the_engine_die(self, life: int) -> None:
        """Before the last quarter, where the engine is to be killed: a small run would be over before it is. What is
        being completed beside it counts, so that nobody goes past the others."""
        while self._engine_dies and not self._life and 4 * self.told.rendered.count > 3 * self._dependents:
            await asyncio.sleep(0.01)
            await self._check_alive(life)

    async def _learn_epoch(self) -> None:
        self._epoch = (await self._client.propagation.admin.status()).epoch

    async def _check_alive(self, life: int) -> None:
        """Raises Unavailable when the engine is another one: calls that are sent again may find it started already."""
        epoch = (await self._client.propagation.admin.status()).epoch
        if (life, epoch) != (self._life, self._epoch):
            raise Unavailable("the engine was started again; what it had lent is lent no more")

    @staticmethod
    def _decode(batch: work_pb2.Batch) -> npt.NDArray[np.int64]:
        """The pages' numbers, from their names: as texts, as any executor needs them, and as numbers for the count."""
        names = packed.decode_names(batch.names)
        numbers = packed.decode_ids(batch.ids)
        if len(names) != len(numbers):
            raise ValueError(f"a batch has {len(numbers)} ids and {len(names)} names")
        text = np.frombuffer(batch.names + b"\0", np.uint8).reshape(len(names), _NAME_BYTES + 1)
        digits = text[:, len(PAGE_PREFIX) : _NAME_BYTES].astype(np.int64) - ord("0")
        return digits @ WIDE

    def _hashes(self, pages: npt.NDArray[np.int64]) -> bytes:
        """What stands for the bytes of each render: another one for each page and seed."""
        hashes = np.empty((len(pages), 2), np.uint64)
        hashes[:, 0] = pages.astype(np.uint64) + np.uint64(1)
        hashes[:, 1] = (pages.astype(np.uint64) + self._salt) * np.uint64(0x9E3779B97F4A7C15)
        return hashes.tobytes()

    async def _mend(self, life: int) -> None:
        """Connects anew, once for all that found the engine gone."""
        if life != self._life:
            return
        if self._mending is None:
            self._mending = asyncio.create_task(self._connect())
        await self._mending

    async def _connect(self) -> None:
        say("lost", done=self.told.done.count)
        self._first_told = False
        self._left.append(self._client)
        self._address = self._successor
        await asyncio.to_thread(_await_listener, self._address)
        self._client = aio.connect(propagation=self._address, timeout=_WAIT_S + 10)
        await self._learn_epoch()
        self._life += 1
        self._mending = None


def _await_listener(address: str) -> None:
    """Blocks until something listens there: at once then, where a channel would back off."""
    host, _, port = address.rpartition(":")
    while not ports.accepts(host, int(port)):
        time.sleep(0.01)


def main() -> int:
    """Runs until everything is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--change", required=True)
    parser.add_argument("--resources", type=int, required=True)
    parser.add_argument("--dependents", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine-dies", action="store_true", help="half way; the last quarter waits for it")
    parser.add_argument("--successor", default="", help="the engine that takes over when it died; the same one again")
    parser.add_argument("--beside", action="append", default=[], help="an engine that shares the shards")
    parser.add_argument("--out", type=Path, required=True, help="gets a bit for each page that was rendered")
    asked = parser.parse_args()
    gc.disable()  # nothing here makes cycles, and millions of names are alive
    asked.out.write_bytes(uvloop.run(_run(asked)))
    return 0


async def _run(asked: argparse.Namespace) -> bytes:
    executor = Executor(
        asked.address,
        asked.change,
        asked.resources,
        asked.dependents,
        asked.seed,
        asked.engine_dies,
        asked.successor,
        asked.beside,
    )
    await executor.run(min(BURST_ITEMS, asked.dependents // 4))
    return executor.told.rendered.packed()


if __name__ == "__main__":
    sys.exit(main())
