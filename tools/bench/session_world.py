"""What the session bench measures: servers by the commands that start them, and requests, already serialised."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import wellspring_client
from tools.bench.rpc_load import LoadError
from tools.bench.rpc_targets import Target
from tools.bench.session_raw import ROW_BYTES, ROWS, row_name
from tools.bench.storage_world import make_tables
from wellspring.bench.v1 import echo_pb2
from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.tokens import request_id

REALM, CROWD = "bench", "crowd"
"""Sessions that are validated, and those that are there in masses."""
SESSIONS = 2_000
LISTED = "listed"
"""A subject with LISTED_SESSIONS of its own."""
LISTED_SESSIONS = 20
SERVICE = "wellspring.session.v1.Sessions"
_MIB = 1 << 20


def server(engine: str, *, warm: int, cache_mib: int, write_buffer_mib: int) -> Target:
    """A session server on the embedded backend, with metrics as in a deployment, and the realms of the bench."""

    def command(folder: Path) -> list[str]:
        memory = {"cache_bytes": cache_mib * _MIB, "write_buffer_bytes": write_buffer_mib * _MIB}
        realm = {"max_sessions_per_subject": 0, "touch_interval": "1d", "rotation_interval": "30d"}
        config = {
            "server": {"listen": ["127.0.0.1:0"], "engine": engine, "die_with_parent": True, "drain_wait": "0s"},
            "telemetry": {"metrics_listen": "127.0.0.1:0"},
            "backend": {"embedded": {"path": str(folder / "data"), **memory}},
            "keyring_file": str(folder / "keyring.json"),
            "create_keyring": True,
            "realms": [{"name": REALM, **realm}, {"name": CROWD, **realm}],
            "warm_sessions": warm,
            "sweep_interval": "500ms",
            "gone_after": "10m",
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return [sys.executable, "-m", "services.session.main", "--config", str(folder / "config.yaml")]

    return Target(f"session-{engine}", command, [])


def cluster_server(address: str, folder: Path, *, engine: str, warm: int, redis: str = "") -> Target:
    """A session server on the cluster with a node at `address`, its tables made, and with `redis` ("host:port") in
    front. All that are given the same `folder` share a keyring, and so sessions."""

    def command(own: Path) -> list[str]:
        cluster = {"contact_points": [address], "keyspace": "bench", "local_datacentre": "dc1"}
        backend: dict[str, Any] = {"cassandra": {**cluster, "request_timeout": "60s"}}
        if redis:
            backend = {"cached": {"redis": {"address": redis, "timeout": "10s"}, "origin": backend}}
        realm = {"max_sessions_per_subject": 0, "touch_interval": "1d", "rotation_interval": "30d"}
        config = {
            "server": {"listen": ["127.0.0.1:0"], "engine": engine, "die_with_parent": True, "drain_wait": "0s"},
            "telemetry": {"metrics_listen": "127.0.0.1:0"},
            "backend": backend,
            "keyring_file": str(folder / "keyring.json"),
            "create_keyring": True,
            # A machine that is busy hears late; what is measured is not that.
            "realms": [{"name": REALM, "revocation_bound": "1m", **realm}],
            "warm_sessions": warm,
            "sweep_interval": "1h",
        }
        path = str(own / "config.yaml")
        Path(path).write_text(yaml.safe_dump(config))
        make_tables("session", path)
        return [sys.executable, "-m", "services.session.main", "--config", path]

    return Target("session-cassandra", command, [])


def raw() -> Target:
    """The engine behind bare grpc.aio."""

    def command(folder: Path) -> list[str]:
        return [sys.executable, "-m", "tools.bench.session_raw", str(folder / "data")]

    return Target("raw", command, [])


def creates(count: int, realm: str = REALM, first: int = 0) -> list[bytes]:
    """Logins, each of a subject of its own, with a value as a login has one."""
    assurance = pb.Assurance(level=1, methods=["pwd"])
    return [
        pb.CreateRequest(
            realm=realm, subject=f"s{first + n}", assurance=assurance, data={"name": b"Ann"}, request_id=request_id()
        ).SerializeToString()
        for n in range(count)
    ]


def tokens(answers: Sequence[bytes]) -> list[bytes]:
    """Of answers to `creates`. Raises LoadError when one is none."""
    found = [pb.CreateResponse.FromString(answer).token.value for answer in answers]
    if not all(found):
        raise LoadError("a login was answered without a token")
    return found


def validations(known: Sequence[bytes]) -> list[bytes]:
    """Whose are these tokens? Each counts as an activity."""
    return [
        pb.ValidateRequest(token=pb.Secret(value=token), realm=REALM, touch=True).SerializeToString() for token in known
    ]


def list_requests() -> list[bytes]:
    """All sessions of the subject that has some."""
    return [pb.ListBySubjectRequest(realm=REALM, subject=LISTED, page_size=100).SerializeToString()]


def make_listed(address: str) -> None:
    """Logs the subject in as often as it is to be listed."""
    with wellspring_client.connect(session=address, timeout=60) as client:
        for _ in range(LISTED_SESSIONS):
            client.session.realm(REALM).create(LISTED)


def check_listed(answers: Sequence[bytes]) -> None:
    """Raises LoadError when a list was not whole."""
    for answer in answers:
        if len(pb.ListBySubjectResponse.FromString(answer).sessions) != LISTED_SESSIONS:
            raise LoadError("a list has not all sessions of its subject")


def raw_reads() -> list[bytes]:
    """Rows by their keys."""
    return [echo_pb2.SayRequest(payload=row_name(n * 7919 % ROWS)).SerializeToString() for n in range(ROWS)]


def raw_writes(count: int) -> list[bytes]:
    """New rows, one in a request."""
    one = echo_pb2.SayBatchRequest(payloads=[bytes(ROW_BYTES)]).SerializeToString()
    return [one] * count


def swept_s(address: str, patience_s: float) -> float:
    """Seconds from revoking the whole crowd until no row of it is left. Raises LoadError when that takes too long."""
    with wellspring_client.connect(session=address, timeout=60) as client:
        client.session.realm(CROWD).revoke(whole_realm=True)
        began = time.monotonic()
        while client.session.usage(CROWD).sessions:
            took = time.monotonic() - began
            if took > patience_s:
                raise LoadError(f"the sweeper has not come round in {patience_s:,.0f} s")
            time.sleep(max(0.1, took / 10))  # counting walks over the whole crowd: seldom, or it is what is measured
        return time.monotonic() - began
