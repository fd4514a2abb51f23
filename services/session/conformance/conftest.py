"""What of the suite runs over Cassandra: the tests that run over each store, but for the named exceptions."""

import pytest

from services.session.conformance.harness import EXCEPTIONS, STORES


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out, over Cassandra, what is about another store and the named exceptions."""
    if "cassandra" not in STORES:
        return
    left_out = [item for item in items if not _is_meant(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _is_meant(item: pytest.Item) -> bool:
    if item.path.name.startswith("cassandra_"):
        return True
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return "cassandra" in parameters.values() and getattr(item, "originalname", "") not in EXCEPTIONS
