"""The entry point of every py_test: pytest under Bazel's test protocol (JUnit XML, shards, filter, scratch folder)."""

import importlib.util
import os
import sys
from collections.abc import Sequence

import pytest


class Shard:
    """Keeps every `total`-th test of those collected, sorted by node id, beginning at `index`."""

    def __init__(self, index: int, total: int) -> None:
        self.index, self.total = index, total

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        kept: list[pytest.Item] = []
        dropped: list[pytest.Item] = []
        for i, item in enumerate(sorted(items, key=lambda item: item.nodeid)):
            (kept if i % self.total == self.index else dropped).append(item)
        if dropped:
            config.hook.pytest_deselected(items=dropped)
            items[:] = kept


def _settle_hypothesis() -> None:
    """The same examples each time, as a cached test should have them; EXPLORE=1 in the environment draws new ones.

    No example has a time limit (a loaded machine would fail the test), and a failure prints what repeats it.
    """
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "wellspring",
        deadline=None,
        derandomize=os.environ.get("EXPLORE") != "1",
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("wellspring")


def main(argv: Sequence[str]) -> int:
    """Runs the test files named in `argv`; returns the exit code that Bazel is to see."""
    args = ["-p", "no:cacheprovider", "-ra", "--color=no", "--import-mode=importlib", "-c", os.devnull, "--rootdir=."]
    plugins = []
    env = os.environ
    # Found plugins would have their whole packages rewritten for assertions: a second of every test with hypothesis.
    env.setdefault("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    if importlib.util.find_spec("_hypothesis_pytestplugin"):
        args += ["-p", "_hypothesis_pytestplugin"]
        _settle_hypothesis()
    if xml := env.get("XML_OUTPUT_FILE"):
        args.append("--junitxml=" + xml)
    if tmp := env.get("TEST_TMPDIR"):
        args.append("--basetemp=" + os.path.join(tmp, "pytest"))
        env.setdefault("HOME", tmp)
        env.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", os.path.join(tmp, "hypothesis"))
    chosen = env.get("TESTBRIDGE_TEST_ONLY")
    if chosen:
        args += ["-k", chosen]
    total = int(env.get("TEST_TOTAL_SHARDS", "1"))
    if total > 1:
        if status := env.get("TEST_SHARD_STATUS_FILE"):
            with open(status, "w", encoding="utf-8"):
                pass  # Bazel only asks whether the file exists
        plugins.append(Shard(int(env["TEST_SHARD_INDEX"]), total))
    code = int(pytest.main([*args, *argv], plugins=plugins))
    if code == pytest.ExitCode.NO_TESTS_COLLECTED and (total > 1 or chosen):
        return 0  # an empty shard, or a filter that matched in another target
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
