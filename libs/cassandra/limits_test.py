"""The limits of batches: as the node says, within our own bound; Cassandra's defaults where it does not say."""

import asyncio

import pytest

from libs.cassandra.limits import BatchLimits, batch_limits
from libs.errors.errors import Unavailable


class Cluster:
    """A session of a node with settings; without any it refuses to tell them."""

    def __init__(self, settings):
        self.settings = settings

    async def prepare(self, cql, *, write):
        assert not write
        return cql

    async def execute(self, statement, values, consistency):
        if self.settings is None:
            raise Unavailable("the store refuses this service", reason="STORE_DENIED")
        found = self.settings.get(values[0])
        return [] if found is None else [(found,)]


@pytest.mark.parametrize(
    ("size", "partitions", "limits"),
    [
        ("5KiB", "10", BatchLimits()),
        ("64KiB", "50", BatchLimits(64 << 10, 50)),
        ("4000B", "1", BatchLimits(4000, 1)),
        ("1GiB", "10", BatchLimits(256 << 10, 10)),
        ("much", "many", BatchLimits()),
        (None, None, BatchLimits()),
    ],
)
def test_the_nodes_settings_are_the_limits(size, partitions, limits):
    names = ("batch_size_warn_threshold", "unlogged_batch_across_partitions_warn_threshold")
    settings = {name: value for name, value in zip(names, (size, partitions), strict=True) if value is not None}
    assert asyncio.run(batch_limits(Cluster(settings))) == limits


def test_where_they_may_not_be_read_the_defaults_are_taken():
    assert asyncio.run(batch_limits(Cluster(None))) == BatchLimits(5120, 10)
