"""The processes of the giant root: a platform with two executors, and a real Varnish in front of it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.caches.site import deployed_vcl
from tests.system.giant_site import RENDERED, VIEWS, WORK
from tools.dev.servers.varnish import Varnish
from tools.platform import ports
from tools.platform.layout import SERVICES, Layout, Route, fixed_ports
from tools.platform.platform import Platform

EXECUTORS = ("executor", "executor-2")
VICTIMS = ("propagation", *EXECUTORS)
CACHE_MIB = 256


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[Platform, Varnish]]:
    """The platform with two executors, none of its processes restarted by itself, and Varnish in front of it."""
    numbers = fixed_ports(ports.free_base(), len(EXECUTORS))
    gateway = f"127.0.0.1:{numbers['http']}"
    with Varnish(gateway, vcl=deployed_vcl(), storage_mib=CACHE_MIB) as varnish:
        caches = [
            {"name": "gateway", "urls": [f"http://{gateway}"]},
            {"name": "varnish", "kind": "varnish", "urls": [varnish.url], "timeout": "10s"},
        ]
        overrides: dict[str, dict[str, object]] = {name: {"server": {"drain_wait": "50ms"}} for name in SERVICES}
        overrides["executor"] |= {"caches": caches, **WORK}
        layout = Layout(
            data=folder,
            ports=numbers,
            routes=(Route("/page/", RENDERED),),
            views=VIEWS,
            executors=len(EXECUTORS),
            overrides=overrides,
        )
        with Platform(layout, restart=False) as platform:
            yield platform, varnish
