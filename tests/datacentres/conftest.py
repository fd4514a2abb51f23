"""The two data centres of a run: one pair for all of its tests."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.datacentres.cluster import Site, nodes, served
from tests.datacentres.play import made
from tools.dev.servers.cassandra import Cassandra


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cassandra]:
    """The nodes. Every test leaves them up."""
    with nodes() as cassandra:
        yield cassandra


@pytest.fixture(scope="module")
def both(cluster: Cassandra) -> Iterator[Site]:
    """A server in each, with the namespaces of the tests. Every test leaves them up."""
    with served(cluster, "site") as running:
        asyncio.run(made(running))
        yield running
