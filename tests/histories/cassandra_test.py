"""What callers of two servers on one cluster are told has one order, while these are killed and stopped at random: of
concurrent compare-and-set, and of logins, rotations and revocations."""

import asyncio
import json
import os
import random
import subprocess
import sys

import pytest

from services.storage.server_process import environment
from tests.histories import session_storm
from tests.histories.judging import must_be_linearisable
from tests.histories.server import Server
from tests.histories.session_clients import SETTING
from tests.histories.storm import storm
from tools.dev.servers.cassandra import Cassandra

SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)


@pytest.fixture(scope="module")
def node():
    with Cassandra() as started:
        yield started


def migrated(node, service, *more):
    """The settings of servers of this service, whose tables are there."""
    cluster = {
        "contact_points": [node.address],
        "keyspace": service,
        "local_datacentre": "dc1",
        "request_timeout": "30s",
    }
    settings = [f"backend.cassandra={json.dumps(cluster)}", *more]
    command = [
        sys.executable,
        "-m",
        f"services.{service}.migrate",
        *(word for one in settings for word in ("--set", one)),
    ]
    subprocess.run(command, env=environment(), check=True, timeout=300)
    return settings


def judged(history, folder):
    print(dict(history.counts))
    history.write(folder / "history.jsonl")
    print(must_be_linearisable(folder / "history.jsonl"))


def test_clients_of_two_servers_see_one_order_through_kills_and_stops(node, tmp_path):
    print(f"to have the same troubles again: --test_env=WELLSPRING_SEED={SEED}")
    settings = migrated(node, "storage")
    with Server(settings) as one, Server(settings) as other:
        judged(asyncio.run(storm([one, other], random.Random(SEED), 40)), tmp_path)


def test_ses_10_logins_and_revocations_at_two_servers_have_one_order_through_kills_and_stops(node, tmp_path):
    print(f"to have the same troubles again: --test_env=WELLSPRING_SEED={SEED}")
    settings = migrated(node, "session", f"keyring_file={tmp_path / 'keyring.json'}", "create_keyring=true", SETTING)
    start = ["services.session.main"]
    with Server(settings, start) as one, Server(settings, start) as other:
        judged(asyncio.run(session_storm.storm([one, other], random.Random(SEED), 40)), tmp_path)
