"""Services as real processes on one machine, for system tests: started, drained, killed, started again in place."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tools.dev.servers.ports import free_port
from tools.dev.servers.process import Process
from tools.platform.layout import MODULES

SERVICES = ("storage", "session", "propagation")
STACKS = {"PYTHONFAULTHANDLER": "1"}
"""Environment of a process that writes down where its threads are when it ends by a fatal signal."""
VIEWS = """
views:
  - name: page
    resource_prefixes: ["page/"]
    render: {entry_point: {function: "example:render"}}
    store: {namespace: rendered}
"""


class Served:
    """A service on a port of loopback that it keeps over restarts; its data, configuration and log are in ``folder``.

    ``config`` is added to what every service needs to run on its own. ``address`` is "127.0.0.1:port", with a port that
    is free unless one is given.
    """

    def __init__(self, folder: Path, service: str, engine: str, config: Mapping[str, Any], port: int = 0) -> None:
        folder.mkdir(parents=True)
        self.address = f"127.0.0.1:{port or free_port()}"
        self._ready = folder / "ready.json"
        server = {"listen": [self.address], "engine": engine, "ready_file": str(self._ready), "drain_wait": "50ms"}
        told = {"server": server, "backend": {"embedded": {"path": str(folder / "data")}}} | dict(config)
        config_file = folder / "config.yaml"
        config_file.write_text(yaml.safe_dump(told), encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)} | STACKS
        command = [sys.executable, "-m", MODULES[service], "--config", str(config_file)]
        self.process = Process(service, command, folder, environment)

    def start(self) -> None:
        """Returns when it takes calls. Raises ServerError."""
        self._ready.unlink(missing_ok=True)
        self.process.start()
        self.process.wait_ready(self._ready.exists, every_s=0.01)

    def drain(self) -> None:
        """SIGTERM; returns when the process has ended, having answered what it had begun."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()


@contextmanager
def three_services(folder: Path, engine: str) -> Iterator[dict[str, Served]]:
    """Storage, session with the realm "web", and propagation with the view "page" (two quick attempts), each on its
    own; killed at the end."""
    views = folder / "views.yaml"
    views.write_text(VIEWS, encoding="utf-8")
    configs: dict[str, dict[str, Any]] = {
        "storage": {},
        "session": {"keyring_file": str(folder / "keyring.json"), "create_keyring": True, "realms": [{"name": "web"}]},
        "propagation": {
            "views_file": str(views),
            "retry": {"max_attempts": 2, "initial_backoff": "1ms", "max_backoff": "1ms"},
        },
    }
    with ExitStack() as stack:
        site = {service: Served(folder / service, service, engine, configs[service]) for service in SERVICES}
        for served in site.values():
            stack.callback(served.kill)
            served.start()
        yield site
