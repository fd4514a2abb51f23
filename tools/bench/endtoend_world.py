"""The processes of the end-to-end bench, each with the configuration that it would have in a deployment."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tools.dev.servers.ports import free_port
from tools.dev.servers.process import Process
from wellspring.propagation.v1 import propagation_pb2

VIEW = "html"
NAMESPACE = "pages"
PAGE_PREFIX = "bench/page/"
WARM, HUB = "bench/template/warm", "bench/template/hub"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_DECLARED_AT_ONCE = 50_000


def environment() -> dict[str, str]:
    """In which a child finds the same modules."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    return os.environ | {"PYTHONPATH": paths}


def page(number: int) -> str:
    """A page's name."""
    return f"{PAGE_PREFIX}{number:09}"


def views(stub_port: int) -> str:
    """Rendered by the stub, stored, purged from it."""
    return f"""
views:
  - name: {VIEW}
    resource_prefixes: [{PAGE_PREFIX}]
    render: {{http: {{url: "http://127.0.0.1:{stub_port}/render/{{resource}}"}}}}
    store: {{namespace: {NAMESPACE}}}
    purge: {{urls: ["/{{path}}"]}}
    max_concurrency: 64
"""


def declarations(first: int, count: int, template: str) -> Iterator[propagation_pb2.PackedDeclarations]:
    """Pages from `first` on that depend on the template."""
    for start in range(first, first + count, _DECLARED_AT_ONCE):
        numbers = range(start, min(first + count, start + _DECLARED_AT_ONCE))
        yield propagation_pb2.PackedDeclarations(
            view=VIEW,
            dependents="\0".join(map(page, numbers)).encode(),
            inputs=template.encode(),
            counts=(1).to_bytes(4, "little") * len(numbers),
            input_index=bytes(4 * len(numbers)),
        )


class Service:
    """One process, and the CPU that it has used."""

    def __init__(self, name: str, module: str, arguments: list[str], folder: Path, ready: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", module, *arguments]
        self._process = Process(name, command, folder, environment())
        self._ready = ready

    def start(self) -> None:
        """Starts it; a server has said that it is ready when this returns."""
        self._process.start()
        if self._ready is not None:
            self._process.wait_ready(self._ready.exists, every_s=0.02)

    def stop(self) -> None:
        """Ends it in order."""
        self._process.stop()

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()

    def cpu_s(self) -> float:
        """CPU seconds used so far, its own and the kernel's for it (proc(5), stat)."""
        words = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _TICKS_PER_S


class Deployment:
    """Storage, engine and executors on an embedded backend in `folder`, with the defaults; the renderer is asked for
    `pipeline` pages in a row."""

    def __init__(self, folder: Path, executors: int, stub_port: int, pipeline: int = 1) -> None:
        self._folder = folder
        self.storage_address, self.engine_address = (f"127.0.0.1:{free_port()}" for _ in range(2))
        (folder / "views.yaml").write_text(views(stub_port))
        embedded = {name: {"embedded": {"path": str(folder / f"{name}-data")}} for name in ("storage", "propagation")}
        self.storage = self._server(
            "storage", "services.storage.main", self.storage_address, backend=embedded["storage"]
        )
        self.engine = self._server(
            "propagation",
            "services.propagation.main",
            self.engine_address,
            backend=embedded["propagation"],
            views_file=str(folder / "views.yaml"),
        )
        self.executors = [
            self._server(
                f"executor-{number + 1}",
                "services.propagation.executor.main",
                f"127.0.0.1:{free_port()}",
                engine={"addresses": [self.engine_address]},
                storage={"addresses": [self.storage_address]},
                caches=[{"name": "stub", "urls": [f"http://127.0.0.1:{stub_port}"]}],
                targets=[{"origin": f"http://127.0.0.1:{stub_port}", "max_concurrency": 64, "pipeline": pipeline}],
            )
            for number in range(executors)
        ]

    def _server(self, name: str, module: str, address: str, **config: Any) -> Service:
        ready = self._folder / name / "ready.json"
        file = self._folder / f"{name}.yaml"
        server: Mapping[str, Any] = {"listen": [address], "ready_file": str(ready)}
        file.write_text(yaml.safe_dump({"server": server, **config}))
        return Service(name, module, ["--config", str(file)], self._folder / name, ready)

    def cpu_s(self) -> dict[str, float]:
        """Of each part, all its processes together."""
        return {
            "engine": self.engine.cpu_s(),
            "executor": sum(one.cpu_s() for one in self.executors),
            "storage": self.storage.cpu_s(),
        }
