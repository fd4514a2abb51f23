"""The two data centres of a run: one pair for all of its tests."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.datacentres.cluster import Site, site
from tests.datacentres.play import made


@pytest.fixture(scope="session")
def both() -> Iterator[Site]:
    """Both, with the namespaces of the tests. Every test leaves them up."""
    with site() as running:
        asyncio.run(made(running))
        yield running
