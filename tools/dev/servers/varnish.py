"""A real Varnish cache for tests: `with Varnish(origin="127.0.0.1:8000") as cache: requests to cache.url`."""

from __future__ import annotations

import socket
from pathlib import Path

from tools.dev.servers import locate
from tools.dev.servers.ports import free_port
from tools.dev.servers.process import START_TIMEOUT_S, Process
from tools.dev.servers.server import Server

DEFAULT_VCL = Path(__file__).with_name("default.vcl")


class Varnish(Server):
    """One Varnish in front of one origin. Its cache is in memory: kill and restart empty it.

    `address` is "host:port", `url` its base. The default VCL (default.vcl beside this file) honours PURGE of a URL and
    PURGE with an `xkey` or `xkey-softpurge` header of surrogate keys, and says HIT or MISS in `x-cache`.
    """

    name = "varnish"

    def __init__(
        self,
        origin: str,
        vcl: str | Path = DEFAULT_VCL,
        storage_mib: int = 32,
        parameters: dict[str, str] | None = None,
        timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """`origin` is "host:port"; `vcl` a file or text, in which @ORIGIN_HOST@ and @ORIGIN_PORT@ are replaced.

        `parameters` are further varnishd parameters. Raises ValueError when `origin` is not "host:port".
        """
        host, _, port = origin.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"origin {origin!r} is not HOST:PORT")
        root = locate.repository("varnish_server") / "root"
        text = vcl.read_text() if isinstance(vcl, Path) else vcl
        super().__init__(timeout_s)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        file = self.directory / "site.vcl"
        file.write_text(text.replace("@ORIGIN_HOST@", host).replace("@ORIGIN_PORT@", port))
        command = [str(root / "usr/sbin/varnishd"), "-F", "-n", str(self.directory / "run"), "-j", "none", "-T", "none"]
        command += ["-a", self.address, "-f", str(file), "-s", f"malloc,{storage_mib}m"]
        for name, value in {**_parameters(root), **(parameters or {})}.items():
            command += ["-p", f"{name}={value}"]
        self.processes = [Process("varnish", command, self.directory, locate.library_environment(root))]

    def wait_ready(self) -> None:
        self.processes[0].wait_ready(self._answers, self.timeout_s, every_s=0.02)

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            # No request: the worker refuses it before any VCL or origin is asked. The manager alone would only accept.
            connection.sendall(b"?\r\n\r\n")
            return connection.recv(16).startswith(b"HTTP/1.1 400")


def _parameters(root: Path) -> dict[str, str]:
    library = root / "usr/lib/x86_64-linux-gnu"
    includes = [library / "tcc/include", root / "usr/include", root / "usr/include/x86_64-linux-gnu"]
    # VCL becomes C, which tcc compiles; what it calls is in varnishd itself, so nothing has to be linked.
    compiler = f"exec {root}/usr/bin/tcc -B{library}/tcc -shared -nostdlib -nostdinc "
    compiler += " ".join(f"-I{i}" for i in includes) + " -o %o %s"
    return {
        "cc_command": compiler,
        "vmod_path": f"{library}/varnish/vmods",
        "thread_pools": "1",
        "thread_pool_min": "20",
        "thread_pool_max": "200",
        "vsl_space": "1M",
    }
