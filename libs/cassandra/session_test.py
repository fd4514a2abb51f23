"""A cluster that cannot be had is refused in our words, wherever the driver finds out."""

import asyncio

import pytest

from libs.cassandra.options import Options
from libs.cassandra.session import Session
from libs.errors.errors import Unavailable
from tools.dev.servers.ports import free_port


@pytest.mark.parametrize("place", [("no-such-host.invalid", 9042), ("127.0.0.1", free_port())])
def test_a_cluster_that_is_not_there_is_refused_with_its_address(place: tuple[str, int]) -> None:
    with pytest.raises(Unavailable, match=f"{place[0]}:{place[1]} cannot be opened") as refused:
        asyncio.run(Session.open(Options((place,), "k", "dc1")))
    assert refused.value.reason == "STORE_UNREACHABLE"
