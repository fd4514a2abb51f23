"""The driver alone, in a process of its own, and the best figures of rounds: for benches on a Cassandra node."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.bench.figures import Figures
from tools.bench.rpc_load import LoadError
from tools.bench.storage_world import environment


class Driver:
    """A process like `tools.bench.storage_driver`, which does a round of work for each line that it is given."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        """Use `running`."""
        self._process = process
        self._log = log

    @classmethod
    @contextmanager
    def running(
        cls, address: str, folder: Path, options: Mapping[str, str | int], module: str = "storage_driver"
    ) -> Iterator["Driver"]:
        """`module` of this folder, started with the options of its command line; killed at the end. Its log is in
        `folder`."""
        command = [sys.executable, "-m", f"tools.bench.{module}", "--address", address]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        path = folder / f"{module}.log"
        with path.open("w") as errors:
            process = subprocess.Popen(
                command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        try:
            yield cls(process, path)
        finally:
            process.kill()
            process.communicate()

    def round(self, work: str, count: int, width: int) -> dict[str, Any]:
        """Figures of `count` calls, `width` of them under way. Raises LoadError."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(f"{work} {count} {width}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise LoadError(f"the driver alone failed: {self._log.read_text()[-2000:]}")
        told: dict[str, Any] = json.loads(line)
        return told


def keep_best(figures: Figures, name: str, found: Mapping[str, float]) -> None:
    """The best of each figure of a kind of work so far."""
    for kind, value in found.items():
        kept, told, better = {
            "per_s": (f"{name}_per_s", round(value), max),
            "cpu_us": (f"{name}_cpu_s_per_10k", round(value / 100, 3), min),
            "node_cpu_us": (f"{name}_node_cpu_s_per_10k", round(value / 100, 3), min),
            "p50_ms": (f"{name}_p50_ms", round(value, 2), min),
            "p99_ms": (f"{name}_p99_ms", round(value, 2), min),
        }[kind]
        figures[kept] = better(figures.get(kept, told), told)
