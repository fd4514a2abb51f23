"""Concurrent compare-and-set on a cluster, through two servers that are killed and stopped at random, has one order."""

import asyncio
import json
import os
import random
import subprocess
import sys

from services.storage.server_process import environment
from tests.histories.judging import must_be_linearisable
from tests.histories.server import Server
from tests.histories.storm import storm
from tools.dev.servers.cassandra import Cassandra

SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)


def test_clients_of_two_servers_see_one_order_through_kills_and_stops(tmp_path):
    print(f"to have the same troubles again: --test_env=WELLSPRING_SEED={SEED}")
    with Cassandra() as node:
        cluster = {
            "contact_points": [node.address],
            "keyspace": "histories",
            "local_datacentre": "dc1",
            "request_timeout": "30s",
        }
        settings = [f"backend.cassandra={json.dumps(cluster)}"]
        migrate = [sys.executable, "-m", "services.storage.migrate", "--set", settings[0]]
        subprocess.run(migrate, env=environment(), check=True, timeout=300)
        with Server(settings) as one, Server(settings) as other:
            history = asyncio.run(storm([one, other], random.Random(SEED), 40))
    print(dict(history.counts))
    history.write(tmp_path / "history.jsonl")
    print(must_be_linearisable(tmp_path / "history.jsonl"))
