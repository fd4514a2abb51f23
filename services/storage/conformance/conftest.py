"""The fixture that runs each test of the suite over each store."""

from pathlib import Path

import pytest

from services.storage.conformance.kit import STORES, Bench


@pytest.fixture(params=sorted(STORES))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """A fresh store."""
    return Bench(request.param, tmp_path)
