"""A gateway as a real process, for system tests."""

from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from tests.system.refusing import command, environment
from tools.dev.servers.ports import free_port
from tools.dev.servers.process import Process


class Gateway:
    """Serves /page/… from the namespace "html" and /lost/… from one that is not there; killed at the end."""

    def __init__(self, folder: Path, storage: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._ready = folder / "gateway.json"
        config = {
            "server": {"listen": ["127.0.0.1:0"], "ready_file": str(self._ready)},
            "http": {"listen": [self.address]},
            "storage": {"addresses": [storage]},
            "routes": [
                {"path_prefix": "/page/", "namespace": "html"},
                {"path_prefix": "/lost/", "namespace": "nowhere"},
            ],
        }
        file = folder / "gateway.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        self.process = Process("gateway", command("gateway", file), folder, environment())

    def __enter__(self) -> Self:
        self.process.start()
        self.process.wait_ready(self._ready.exists)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
