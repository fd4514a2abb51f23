"""Where a fleet stands, for whoever reads why it came to no end: its shards, group, roots, processes and their logs."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from libs.kafka.groups import Groups
from libs.kafka.options import Options
from services.propagation.fleet.shards import SHARD_HEADER
from tests.system.giant_site import VIEW
from tests.system.shard_fleet import GROUP, SHARDS, TOPIC, Fleet
from tools.dev.servers.process import Process, ServerError
from wellspring.propagation.v1 import propagation_admin_pb2, propagation_admin_pb2_grpc, propagation_pb2
from wellspring_client import aio
from wellspring_client.errors import WellspringError

_CALL_S = 5.0
_LOOK_S = 60.0
_MOST = 5
_STACKS_S = 10.0
_CHARACTERS = 3_000
_STACKS = "Fatal Python error: Aborted"


async def told(fleet: Fleet) -> str:
    """Many lines. Ends the engines and the executors, which say where their threads are."""
    lines: list[str] = []
    try:
        async with asyncio.timeout(_LOOK_S):
            async for line in _looked(fleet):
                lines.append(line)
    except Exception as error:  # the rest is to be told all the same
        lines.append(f"no more is known: {error!r}")
    everybody = [*fleet.processes(), fleet.storage.process, *fleet.kafka.brokers]
    lines += [_state(process) for process in everybody]
    for process in fleet.processes():
        _abort(process)
    await _ended(fleet)
    for process in everybody:
        said, _, stacks = process.logs().rpartition(_STACKS)
        lines += ["", f"end of the log of {process.name}:", (said or stacks)[-_CHARACTERS:]]
        if said and process in fleet.engines:
            lines += [_STACKS, stacks]
    return "\n".join(lines)


async def _looked(fleet: Fleet) -> AsyncIterator[str]:
    for engine, address in zip(fleet.engines, fleet.addresses, strict=True):
        async with grpc.aio.insecure_channel(address) as channel:
            for shard in range(SHARDS):
                yield f"{engine.name}, its shard {shard}: {await _status(channel, [(SHARD_HEADER, str(shard))])}"
            yield f"{engine.name}, all shards through it: {await _status(channel, [])}"
    groups = Groups(Options(tuple(fleet.kafka.address.split(","))))
    try:
        yield f"the group has {await groups.members(GROUP, TOPIC)}"
    except Exception as error:
        yield f"the group cannot be asked: {error!r}"
    async with aio.connect(propagation=fleet.addresses, timeout=_CALL_S) as client:
        try:
            active = client.propagation.list_changes(states=[propagation_pb2.Root.STATE_ACTIVE])
            async for line in _some(active):
                yield f"active: {line}"
            pending = (one async for one in client.propagation.admin.outputs(VIEW) if one.pending)
            async for line in _some(pending):
                yield f"pending: {line}"
        except WellspringError as error:
            yield f"roots and pages cannot be asked for: {error!r}"


async def _status(channel: grpc.aio.Channel, metadata: list[tuple[str, str]]) -> str:
    request = propagation_admin_pb2.GetStatusRequest()
    stub = propagation_admin_pb2_grpc.PropagationAdminStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
    try:
        told = await stub.GetStatus(request, metadata=metadata, timeout=_CALL_S)
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    following = "; ".join(f"follows {one.namespace}: {one.error or 'well'}" for one in told.followers)
    return (
        f"epoch {told.epoch}, sequence {told.sequence}: {told.pending:,} pending, {told.leased:,} leased,"
        f" {told.retrying:,} retrying, {told.dead_letters:,} dead letters, {told.active_roots} roots; {following}"
    )


async def _some(things: AsyncIterator[object]) -> AsyncIterator[str]:
    count = itertools.count(1)
    async for one in things:
        yield " ".join(str(one).split())
        if next(count) == _MOST:
            return


def _state(process: Process) -> str:
    try:
        told = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ServerError):
        return f"{process.name}: has ended"
    used_s = (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
    return f"{process.name}: lives, state {told[0]}, {used_s:.0f} s of processor time"


def _abort(process: Process) -> None:
    """It writes down where its threads are (PYTHONFAULTHANDLER)."""
    try:
        os.kill(process.pid, signal.SIGCONT)
        os.kill(process.pid, signal.SIGABRT)
    except (OSError, ServerError):
        return


async def _ended(fleet: Fleet) -> None:
    end_s = time.monotonic() + _STACKS_S
    while any(one.running for one in fleet.processes()) and time.monotonic() < end_s:  # noqa: ASYNC110  processes
        await asyncio.sleep(0.1)
