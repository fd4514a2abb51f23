"""Concurrent compare-and-set over two data centres, one of which is stopped and killed meanwhile, has one order.

Where each data centre decides for itself what both should decide it has none, and the judge says so.
"""

import asyncio
import contextlib
import os
import random

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.datacentres.cluster import migrated
from tests.datacentres.promises import DATACENTRES, HOME
from tests.histories.broken_main import APART
from tests.histories.judging import NOT_LINEARISABLE, judge, must_be_linearisable
from tests.histories.server import STORAGE, Server
from tests.histories.storm import calm, storm
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_pb2 as pb

SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
AWAY = next(name for name in DATACENTRES if name != HOME)
HISTORIES = 20
"""So many without a fault are no chance."""
LONG = Duration(seconds=3600)
"""Who asks again after an outage brings a token as old as that."""
HOMELESS = admin_pb.Namespace(default_consistency=pb.CONSISTENCY_STRONG_GLOBAL, max_clock_drift=LONG)
HOMED = admin_pb.Namespace(
    default_consistency=pb.CONSISTENCY_STRONG_LOCAL,
    placement=admin_pb.Placement(home_datacentre=HOME),
    max_clock_drift=LONG,
)


@contextlib.contextmanager
def serving(cluster, keyspace, places, start=STORAGE):
    """A server in each of the places, on a keyspace of their own."""
    settings = migrated(cluster, keyspace)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Server([settings[place]], start)) for place in places]


@pytest.mark.parametrize(
    ("settings", "places", "meanwhile"),
    [
        # Decided by all, and asked for in both: while one is away nobody is answered.
        pytest.param(HOMELESS, DATACENTRES, {"lost": 3}, id="homeless"),
        # Decided in one, and asked for there: what becomes of the other is nothing to it.
        pytest.param(HOMED, (HOME, HOME), {"ok": 20, "held": 5}, id="homed"),
    ],
)
def test_clients_see_one_order_while_a_data_centre_is_away(request, tmp_path, cluster, settings, places, meanwhile):
    print(f"to have the same troubles again: --test_env=WELLSPRING_SEED={SEED}")
    (node,) = cluster.in_datacenter(AWAY)

    async def stopped(history):
        node.pause()
        try:
            await history.grow(**meanwhile)
        finally:
            node.resume()

    async def killed(history):
        node.kill()
        try:
            await history.grow(**meanwhile)
        finally:
            await asyncio.to_thread(node.restart)

    with serving(cluster, request.node.callspec.id, places) as servers:
        troubles = ["kill", stopped, killed]
        history = asyncio.run(storm(servers, random.Random(SEED), 40, troubles=troubles, settings=settings))
    print(dict(history.counts))
    history.write(tmp_path / "history.jsonl")
    print(must_be_linearisable(tmp_path / "history.jsonl"))


def test_data_centres_that_decide_apart_are_found_out(tmp_path, cluster):
    print(f"seed {SEED}")
    chance = random.Random(SEED)

    def judged(number):
        """The judge's code for a history of its own."""
        with serving(cluster, f"apart{number}", DATACENTRES, ("tests.histories.broken_main", APART)) as servers:
            history = asyncio.run(calm(servers, chance, HOMELESS, held=100))
        history.write(tmp_path / f"history{number}.jsonl")
        verdict = judge(tmp_path / f"history{number}.jsonl")
        print(verdict.said)
        return verdict.code

    # It takes two writes to one record in the millisecond in which the data centres do not know of each other's: most
    # histories have some.
    assert any(judged(number) == NOT_LINEARISABLE for number in range(HISTORIES))
