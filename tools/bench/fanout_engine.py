"""The engine of the fan-out bench: the propagation server as a process, and what the kernel says of it."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from tools.bench.fanout_world import VIEWS
from tools.dev.servers.ports import free_port
from tools.dev.servers.process import Process

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SETTLED_SHARE = 0.05
_LOOK_EVERY_S = 1.0
_CALM_LOOKS = 4
_SETTLE_MOST_S = 600.0
SESSION_S = 6
"""Of an engine on Kafka: so long the group waits for one that is silent, the least that brokers allow by default."""


class Engine:
    """services/propagation/main.py on an embedded store in `folder`, with the defaults but for what is given.

    With `kafka` (the message of that name) its log is there: it is an owner, or a spare, of a shard, or one of the
    engines that lead several `shards`.
    """

    def __init__(
        self,
        folder: Path,
        views: str = VIEWS,
        embedded: Mapping[str, object] | None = None,
        limits: Mapping[str, object] | None = None,
        checkpoint: Mapping[str, object] | None = None,
        kafka: Mapping[str, object] | None = None,
        shards: int = 1,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.shards = shards
        self.address = f"127.0.0.1:{free_port()}"
        self.data = folder / "data"
        self._ready = folder / "ready.json"
        (folder / "views.yaml").write_text(views)
        store = {"path": str(self.data), **(embedded or {})}
        backend: dict[str, object] = {"embedded": store}
        if kafka:
            sharded = {"kafka": dict(kafka), "embedded": store, "session_timeout": f"{SESSION_S}s", "shards": shards}
            backend = {"sharded": sharded}
        config = folder / "propagation.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "server": {"listen": [self.address], "ready_file": str(self._ready)},
                    "backend": backend,
                    "limits": dict(limits or {}),
                    "checkpoint": dict(checkpoint or {}),
                    "views_file": str(folder / "views.yaml"),
                }
            )
        )
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
        command = [sys.executable, "-m", "services.propagation.main", "--config", str(config)]
        self._process = Process("propagation", command, folder, os.environ | {"PYTHONPATH": paths})

    def start(self) -> None:
        """Starts it and waits until it takes calls."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Starts it: a spare takes no calls before it leads."""
        self._ready.unlink(missing_ok=True)
        self._process.start()

    def wait(self) -> None:
        """Waits until it takes calls."""
        self._process.wait_ready(self._ready.exists, every_s=0.01)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()

    def stop(self) -> None:
        """Lets it end in order."""
        self._process.stop()

    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        return cpu_s(self._process.pid)

    def settle(self) -> None:
        """Waits until it does next to nothing for some seconds: what it does once it is idle begins only then."""
        end, used = time.monotonic() + _SETTLE_MOST_S, self.cpu_s()
        calm = 0
        while time.monotonic() < end:
            time.sleep(_LOOK_EVERY_S)
            before, used = used, self.cpu_s()
            calm = calm + 1 if used - before < _SETTLED_SHARE * _LOOK_EVERY_S else 0
            if calm >= _CALM_LOOKS:
                return
        raise SystemExit(f"the engine was still busy {_SETTLE_MOST_S:.0f} s after it was loaded")

    def resident_mib(self) -> float:
        """What it has in memory now."""
        return self._memory_mib("VmRSS")

    def peak_mib(self) -> float:
        """The most that it had in memory since `forget_peak`."""
        return self._memory_mib("VmHWM")

    def forget_peak(self) -> None:
        """The peak is counted from now on (proc(5), clear_refs)."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def _memory_mib(self, name: str) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1]) / 1024


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS_PER_S
