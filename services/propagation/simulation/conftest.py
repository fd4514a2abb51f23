"""What a test's worlds keep their state in: a disk, or a log that the store is made again from."""

import asyncio
from collections.abc import Iterator

import pytest

from services.propagation.simulation.log_disk import LogDisk
from services.propagation.simulation.world import World


@pytest.fixture(params=["disk", "log"])
def state_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For tests without a loop of their own: what is written to a log is waited for on one, which stands."""
    if request.param == "disk":
        yield
        return
    monkeypatch.setattr(World, "disk_of", LogDisk)
    loop = asyncio.new_event_loop()
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)
        loop.close()
