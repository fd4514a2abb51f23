"""What the rpc bench measures: servers by the command that starts them, and a hot method of each by its requests.

To add a service: a ``Target`` whose command prints the ready line of ``libs.rpc.run``, the method, and its serialised
requests, single ones and batches of the same items. ``prepare`` makes what they need there (a namespace, a session)
once.
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


@dataclass(frozen=True)
class Target:
    """A server and its hot method.

    ``command(folder)`` starts it, with ``folder`` for its data; ``single`` and ``batch`` make the requests of
    ``method`` and ``batch_method``, which are sent in turn; a batch has BATCH_ITEMS items. A target without batches has
    no ``batch``.
    """

    name: str
    command: Callable[[Path], list[str]]
    method: str
    single: Callable[[], Sequence[bytes]]
    batch_method: str = ""
    batch: Callable[[], Sequence[bytes]] | None = None
    prepare: Callable[[str], None] | None = None
    calls_share: float = 1.0


def _say() -> list[bytes]:
    return [echo_pb2.SayRequest(payload=PAYLOAD).SerializeToString()]


def _say_batch() -> list[bytes]:
    return [echo_pb2.SayBatchRequest(payloads=[PAYLOAD] * BATCH_ITEMS).SerializeToString()]


def _bare(name: str, engine: str) -> Target:
    def command(folder: Path) -> list[str]:
        return [sys.executable, "-m", "tools.bench.rpc_bare", engine]

    return Target(name, command, f"{ECHO}/Say", _say, f"{ECHO}/SayBatch", _say_batch)


def _pipeline(name: str, collector: str, **options: object) -> Target:
    """The echo behind everything that a service has: rules, a validator, metrics, traces of one call in a hundred."""
    told = {
        "rules": {"anonymous": [f"{ECHO}/*"]},
        "telemetry": {"metrics_listen": "127.0.0.1:0", "trace": {"endpoint": collector, "ratio": 0.01}},
        "drain_wait_s": 0.0,
    } | options

    def command(folder: Path) -> list[str]:
        return [sys.executable, "-m", "libs.rpc.testing.echo_main", json.dumps(told)]

    return Target(name, command, f"{ECHO}/Say", _say, f"{ECHO}/SayBatch", _say_batch)


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


def service_targets() -> list[Target]:
    """The hot methods of the services, measured after the echoes and beside them."""
    return []
