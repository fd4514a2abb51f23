"""Several worker processes on the same ports: started, kept alive, stopped together.

The supervisor holds the ports (``SO_REUSEPORT``, bound but not listening) and starts its own command once for each
worker, as a fresh process: a process that has used gRPC cannot be forked. A worker learns that it is one from its
environment and reports through a pipe when it is ready.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from libs.rpc.listen import hold_port, parse_address
from libs.rpc.options import ServerOptions, StartError
from libs.telemetry.logs import fields

log = logging.getLogger(__name__)

WORKER_VARIABLE: Final = "WELLSPRING_RPC_WORKER"
EXIT_START: Final = 78
"""Exit status of a process that cannot start as configured (EX_CONFIG of sysexits.h)."""

_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 10.0
_STEADY_S = 30.0
"""A worker that lived this long has its next restart at once: its end was not its start's fault."""
_CLOSE_S = 15.0
"""On top of the drain: what closing resources and telemetry may take before a worker is killed."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker process knows of itself: its number, the pipe to report to, the addresses, its supervisor's pid."""

    index: int
    ready_fd: int
    listen: tuple[str, ...]
    parent: int

    @staticmethod
    def from_environment() -> "Worker | None":
        """The worker that this process is, or None. Takes the variable away, so that no child believes to be one."""
        text = os.environ.pop(WORKER_VARIABLE, None)
        if text is None:
            return None
        told = json.loads(text)
        return Worker(told["index"], told["ready_fd"], tuple(told["listen"]), told["parent"])

    def report(self, ready: dict[str, Any]) -> None:
        """Tells the supervisor that this worker takes calls."""
        with open(self.ready_fd, "w", encoding="utf-8") as pipe:
            pipe.write(json.dumps(ready) + "\n")


class Supervisor:
    """Runs ``options.workers`` processes of ``command`` until ``stop`` is set. One ``run`` each."""

    def __init__(self, options: ServerOptions, command: Sequence[str], stop: asyncio.Event) -> None:
        self._options = options
        self._command = list(command)
        self._stop = stop
        self._ready: dict[int, dict[str, Any]] = {}
        self._all_ready = asyncio.Event()
        self._status = 0

    async def run(self, announce: Callable[[dict[str, Any]], None]) -> int:
        """Starts the workers, calls ``announce(ready)`` when all of them are ready, keeps them alive, stops them.

        Returns the exit status: 0, or a worker's own when it could not start at all. Raises StartError for addresses
        that cannot be shared or are taken.
        """
        held: list[socket.socket] = []
        try:
            listen = []
            for text in self._options.listen:
                address = parse_address(text)
                if address.path:
                    raise StartError(f"server.workers: processes cannot share {address}; use one worker or a TCP port")
                port, bound = hold_port(address)
                held.append(port)
                listen.append(str(bound))
            async with asyncio.TaskGroup() as around:
                announcing = around.create_task(self._announce(announce, listen))
                async with asyncio.TaskGroup() as workers:
                    for index in range(self._options.workers):
                        workers.create_task(self._keep(index, listen))
                announcing.cancel()
        finally:
            for port in held:
                port.close()
        return self._status

    async def _announce(self, announce: Callable[[dict[str, Any]], None], listen: list[str]) -> None:
        await self._all_ready.wait()
        workers = [self._ready[index] for index in range(self._options.workers)]
        announce(
            {
                "ready": True,
                "service": self._options.service,
                "pid": os.getpid(),
                "listen": listen,
                "metrics": [ready["metrics"][0] for ready in workers if ready["metrics"]],
                "workers": [ready["pid"] for ready in workers],
            }
        )

    async def _keep(self, index: int, listen: list[str]) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self._stop.is_set():
            began = time.monotonic()
            status, was_ready = await self._run_worker(index, listen)
            if self._stop.is_set():
                return
            if not was_ready and not self._all_ready.is_set():
                # The first start failed: the worker has said why, and starting it again would only say it again.
                self._status = status if status > 0 else 1
                self._stop.set()
                return
            if was_ready and time.monotonic() - began > _STEADY_S:
                backoff_s = _FIRST_BACKOFF_S
            log.error(
                "a worker ended; it is started again", extra=fields(worker=index, status=status, wait_s=backoff_s)
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff_s):
                    await self._stop.wait()
            backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)

    async def _run_worker(self, index: int, listen: list[str]) -> tuple[int, bool]:
        """One life of a worker: its exit status (negative: a signal) and whether it ever was ready."""
        read_fd, write_fd = os.pipe()
        told = {"index": index, "ready_fd": write_fd, "listen": listen, "parent": os.getpid()}
        with open(read_fd, "rb") as pipe:  # noqa: ASYNC230  (a pipe, read by the loop)
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env=os.environ | {WORKER_VARIABLE: json.dumps(told)},
                    pass_fds=(write_fd,),
                    stdin=asyncio.subprocess.DEVNULL,
                )
            finally:
                os.close(write_fd)
            async with asyncio.TaskGroup() as group:
                stopping = group.create_task(self._stop_worker(process))
                waiting = group.create_task(self._wait_ready(index, pipe))
                status = await process.wait()
                stopping.cancel()
                was_ready = await waiting
        return status, was_ready

    async def _wait_ready(self, index: int, pipe: Any) -> bool:
        """Waits for the worker's line; False when the worker ended without one."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            line = await reader.readline()
        finally:
            transport.close()
        if not line:
            return False
        self._ready[index] = json.loads(line)
        if len(self._ready) == self._options.workers:
            self._all_ready.set()
        return True

    async def _stop_worker(self, process: asyncio.subprocess.Process) -> None:
        await self._stop.wait()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await asyncio.sleep(self._options.drain_wait_s + self._options.drain_grace_s + _CLOSE_S)
        log.error("a worker did not stop in time and is killed", extra=fields(pid=process.pid))
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def own_command() -> list[str]:
    """The command line that started this process."""
    return [sys.executable, *sys.orig_argv[1:]]
