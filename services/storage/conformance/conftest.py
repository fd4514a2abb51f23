"""The fixture that runs each test of the suite over each store, but for the named exceptions."""

from pathlib import Path

import pytest

from services.storage.conformance.kit import EXCEPTIONS, STORES, Bench


@pytest.fixture(params=sorted(STORES))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """A fresh store."""
    return Bench(request.param, tmp_path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the named exceptions."""
    left_out = [item for item in items if _is_exception(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_exception(item: pytest.Item) -> bool:
    kind = getattr(item, "callspec", None) and item.callspec.params.get("bench")  # type: ignore[attr-defined]
    return getattr(item, "originalname", "") in EXCEPTIONS.get(kind or "", {})
