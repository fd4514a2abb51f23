"""What `wellspring propagation status` shows of an answer."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tools.cli.propagation_views import status
from tools.cli.target import Target
from wellspring.propagation.v1 import propagation_admin_pb2

ANSWER = propagation_admin_pb2.GetStatusResponse(
    snapshots=[
        propagation_admin_pb2.ShardSnapshots(
            shard=0,
            newest_time=Timestamp(seconds=1_700_000_000),
            size_bytes=3 << 20,
            waiting=Duration(seconds=90),
            log_begins_at=42,
        ),
        propagation_admin_pb2.ShardSnapshots(shard=3, error="storage is away"),
    ],
    other_settings=[propagation_admin_pb2.OtherSettings(engine="a:8003", settings=["homes", "rules_file"])],
)


@pytest.fixture(autouse=True)
def _answered(monkeypatch):
    @contextmanager
    def client(self):
        yield SimpleNamespace(propagation=SimpleNamespace(admin=SimpleNamespace(status=lambda: ANSWER)))

    monkeypatch.setattr(Target, "client", client)


def test_snapshots_are_told_to_programs():
    done = CliRunner().invoke(status, ["--json"], catch_exceptions=False)
    assert json.loads(done.output)["snapshots"] == [
        {
            "shard": 0,
            "newest_time": "2023-11-14T22:13:20.000Z",
            "size_bytes": 3 << 20,
            "waiting_s": 90.0,
            "log_begins_at": 42,
            "error": "",
        },
        {
            "shard": 3,
            "newest_time": "",
            "size_bytes": 0,
            "waiting_s": 0.0,
            "log_begins_at": 0,
            "error": "storage is away",
        },
    ]


def test_snapshots_are_told_to_people():
    lines = CliRunner().invoke(status, [], catch_exceptions=False).output.splitlines()
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    assert ["0", "2023-11-14T22:13:20.000Z", "3.0 MiB", "90 s", "42", "none"] in cells
    assert ["3", "none yet", "0 B", "0 s", "0", "storage is away"] in cells


def test_an_engine_that_has_other_settings_is_told():
    done = CliRunner().invoke(status, ["--json"], catch_exceptions=False)
    assert json.loads(done.output)["other_settings"] == [{"engine": "a:8003", "settings": ["homes", "rules_file"]}]
    lines = CliRunner().invoke(status, [], catch_exceptions=False).output.splitlines()
    assert any(line.split() == ["a:8003", "homes,", "rules_file"] for line in lines)
