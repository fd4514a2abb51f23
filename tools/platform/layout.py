"""A deployment on one machine: which processes there are, where they listen, what their configuration says.

Everything lives under one data directory:

    <data>/<service>/       the service's own data
    <data>/config/<service>.yaml
    <data>/logs/<service>.log
    <data>/keyring.json     the session service's keys (back it up apart from the data)
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

# In the order in which they start: each after what it calls.
SERVICES: Final = ("storage", "session", "propagation", "gateway", "executor", "auditor")
MODULES: Final[Mapping[str, str]] = {
    "storage": "services.storage.main",
    "session": "services.session.main",
    "propagation": "services.propagation.main",
    "gateway": "services.gateway.main",
    "executor": "services.propagation.executor.main",
    "auditor": "services.propagation.auditor.main",
    # On hosts of caches, not among a deployment's own processes.
    "relay": "services.propagation.relay.main",
}
DEFAULT_PORT_BASE: Final = 7101
HTTP_PORT_OFFSET: Final = 79
"""The gateway's HTTP port is 7180 by default."""
PLAIN_RECORD: Final = "{resource}"
"""The record of a view that says nothing else: the resource's own name."""

_Yaml = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Route:
    """Readers' paths: `path_prefix` + name is the record `record_prefix` + name of `namespace`.

    Reads are reported as those of `view` and the resource `resource_prefix` + name. Without a view it is the one that
    stores into the namespace under its resources' own names, if there is one.
    """

    path_prefix: str
    namespace: str
    record_prefix: str = ""
    view: str = ""
    resource_prefix: str = ""


@dataclass(frozen=True)
class Layout:
    """What to run. `ports` are by service, and "http" for the gateway's readers.

    `views` is the text of a views file (empty: none), `python_path` where renderers are found, `overrides` further
    configuration by service, merged into what stands here. `auditor` off: nobody looks after the others' work.
    """

    data: Path
    ports: Mapping[str, int]
    routes: Sequence[Route] = ()
    views: str = ""
    python_path: Sequence[str] = ()
    executors: int = 1
    overrides: Mapping[str, _Yaml] = field(default_factory=dict)
    auditor: bool = True

    def address(self, service: str) -> str:
        """host:port of a service."""
        return f"127.0.0.1:{self.ports[service]}"

    @property
    def processes(self) -> list[str]:
        """Names of the processes, in the order in which they start."""
        more = [f"executor-{n}" for n in range(2, self.executors + 1)]
        return [*(name for name in SERVICES if self.auditor or name != "auditor"), *more]

    def config_file(self, process: str) -> Path:
        """Where the configuration of a process is written."""
        return self.data / "config" / f"{process}.yaml"

    def log_directory(self, process: str) -> Path:
        """Where a process works and logs."""
        return self.data / "logs" / process

    def ready_file(self, process: str) -> Path:
        """Written by a process when it takes calls."""
        return self.log_directory(process) / "ready.json"

    def write(self) -> None:
        """Makes the directories and writes every configuration."""
        (self.data / "config").mkdir(parents=True, exist_ok=True)
        if self.views:
            (self.data / "config" / "views.yaml").write_text(self.views, encoding="utf-8")
        for process in self.processes:
            self.log_directory(process).mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(self.config(process), sort_keys=False)
            self.config_file(process).write_text(text, encoding="utf-8")

    def config(self, process: str) -> dict[str, Any]:
        """The configuration of a process, as its YAML says it."""
        service = process.partition("-")[0]
        port = self.ports[process]
        server = {
            "listen": [f"127.0.0.1:{port}"],
            "ready_file": str(self.ready_file(process)),
            "die_with_parent": True,
        }
        config: dict[str, Any] = {"server": server, "telemetry": {"metrics_listen": f"127.0.0.1:{port + 100}"}}
        embedded = {"embedded": {"path": str(self.data / service)}}
        storage = {"addresses": [self.address("storage")]}
        caches = [{"name": "gateway", "urls": [f"http://{self.address('http')}"]}]
        match service:
            case "storage":
                config["backend"] = embedded
            case "session":
                config |= {
                    "backend": embedded,
                    "keyring_file": str(self.data / "keyring.json"),
                    "create_keyring": True,
                    "realms": [{"name": "web"}],
                }
            case "propagation":
                config |= {"backend": embedded, "storage": storage, "caches": caches}
                if self.views:
                    config["views_file"] = str(self.data / "config" / "views.yaml")
            case "gateway":
                config |= {
                    "http": {"listen": [self.address("http")]},
                    "storage": storage,
                    "propagation": {"addresses": [self.address("propagation")]},
                    "routes": [asdict(self._reported(route)) for route in self.routes],
                }
            case "executor":
                config |= {
                    "name": process,
                    "engine": {"addresses": [self.address("propagation")]},
                    "storage": storage,
                    "caches": caches,
                    "python_path": list(self.python_path),
                }
            case "auditor":
                config |= {
                    "engine": {"addresses": [self.address("propagation")]},
                    "storage": storage,
                    "caches": caches,
                    "path": str(self.data / "auditor"),
                }
        return _merged(config, self.overrides.get(service, {}))

    def _reported(self, route: Route) -> Route:
        """The route with the view whose pages it serves."""
        if route.view or not self.views:
            return route
        try:
            stores = {view["name"]: view.get("store") or {} for view in yaml.safe_load(self.views)["views"]}
            into = {name: store for name, store in stores.items() if store.get("namespace") == route.namespace}
            plain = [name for name, store in into.items() if store.get("record", PLAIN_RECORD) == PLAIN_RECORD]
        except (yaml.YAMLError, KeyError, TypeError, AttributeError):
            return route  # the engine names the mistakes in its views
        if len(into) != 1 or not plain:
            return route
        return replace(route, view=plain[0], resource_prefix=route.record_prefix)


def fixed_ports(base: int = DEFAULT_PORT_BASE, executors: int = 1) -> dict[str, int]:
    """Ports by process from `base` on; metrics are each port plus 100."""
    names = [*SERVICES, *(f"executor-{n}" for n in range(2, executors + 1))]
    return {name: base + number for number, name in enumerate(names)} | {"http": base + HTTP_PORT_OFFSET}


def _merged(base: dict[str, Any], more: _Yaml) -> dict[str, Any]:
    merged = dict(base)
    for key, value in more.items():
        mine = merged.get(key)
        merged[key] = _merged(mine, value) if isinstance(mine, dict) and isinstance(value, Mapping) else value
    return merged
