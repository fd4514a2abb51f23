"""What the rpc bench measures: servers by the commands that start them, and the hot methods of each by their requests;
here the echoes. The services are in ``rpc_services``.

To add a method: a ``Load`` of its target, whose requests are serialised before they are sent, singles and batches of
the same items. To add a server: a ``Target`` whose command prints the ready line of ``libs.rpc.run``; ``prepare`` makes
what its loads need there (a namespace, sessions) once.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wellspring.bench.v1 import echo_pb2

BATCH_ITEMS = 100
PAYLOAD = b"x" * 64
ECHO = "wellspring.bench.v1.Echo"

Requests = Callable[[int], Sequence[bytes]]
"""Makes so many serialised requests, or fewer when they may be sent again and again."""


@dataclass(frozen=True)
class Calls:
    """Calls of one method. ``check``, if there is one, is given the answers and raises LoadError when one of them says
    that an item was refused. ``then`` makes, of the answers, calls that are measured with these as one."""

    method: str
    requests: Requests
    check: Callable[[Sequence[bytes]], None] | None = None
    then: Callable[[Sequence[bytes]], "Calls"] | None = None


@dataclass(frozen=True)
class Load:
    """A hot method: singles, and, where it has them, batches of BATCH_ITEMS items.

    ``before`` is given the server's address before each round. At most ``most_items`` items go into a round.
    """

    name: str
    single: Calls
    batch: Calls | None = None
    before: Callable[[str], None] | None = None
    most_items: int = 10_000_000


@dataclass(frozen=True)
class Target:
    """A server. ``command(folder)`` starts it, with ``folder`` for its data."""

    name: str
    command: Callable[[Path], list[str]]
    loads: Sequence[Load]
    prepare: Callable[[str], None] | None = None


def _say(count: int) -> list[bytes]:
    return [echo_pb2.SayRequest(payload=PAYLOAD).SerializeToString()]


def _say_batch(count: int) -> list[bytes]:
    return [echo_pb2.SayBatchRequest(payloads=[PAYLOAD] * BATCH_ITEMS).SerializeToString()]


def _echo(name: str) -> list[Load]:
    return [Load(name, Calls(f"{ECHO}/Say", _say), Calls(f"{ECHO}/SayBatch", _say_batch))]


def _bare(name: str, engine: str) -> Target:
    def command(folder: Path) -> list[str]:
        return [sys.executable, "-m", "tools.bench.rpc_bare", engine]

    return Target(name, command, _echo(name))


def _pipeline(name: str, collector: str, **options: object) -> Target:
    """The echo behind everything that a service has: rules, a validator, metrics, traces of one call in a hundred."""
    told = {
        "rules": {"anonymous": [f"{ECHO}/*"]},
        "telemetry": {"metrics_listen": "127.0.0.1:0", "trace": {"endpoint": collector, "ratio": 0.01}},
        "drain_wait_s": 0.0,
    } | options

    def command(folder: Path) -> list[str]:
        return [sys.executable, "-m", "libs.rpc.testing.echo_main", json.dumps(told)]

    return Target(name, command, _echo(name))


def echo_targets(collector: str) -> list[Target]:
    """The echoes: bare and behind the pipeline, on both engines, and on two workers. ``collector`` takes their
    traces."""
    return [
        _bare("bare", "grpcio"),
        _pipeline("echo", collector),
        _pipeline("workers", collector, workers=2),
        _bare("native_bare", "native"),
        _pipeline("native", collector, engine="native"),
    ]
