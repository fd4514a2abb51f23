"""`wellspring up`: all services on this machine, until Ctrl-C."""

import threading
from pathlib import Path

import click

from tools.cli.output import Output, Row
from tools.cli.running import running
from tools.cli.target import data_option, json_option
from tools.platform import ports, site
from tools.platform.layout import DEFAULT_PORT_BASE
from tools.platform.platform import Platform

WHAT = {
    "storage": "namespaces and records (gRPC)",
    "session": "logins (gRPC)",
    "propagation": "changes and what depends on them (gRPC)",
    "gateway": "health of the readers' side (gRPC)",
    "executor": "health of the renderer (gRPC)",
    "auditor": "health of who looks after the pages (gRPC)",
    "http": "readers: pages, /healthz, /metrics",
}


@click.command()
@json_option
@data_option
@click.option(
    "--port-base",
    type=click.IntRange(0, 65_000),
    default=DEFAULT_PORT_BASE,
    show_default=True,
    help="The first port; readers' is 79 above, metrics 100 above each. 0 takes free ones.",
)
@click.option(
    "--site",
    "site_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Views, routes, renderers, further configuration (deploy/sites has examples).",
)
@click.option(
    "--logs",
    "least",
    type=click.Choice(["info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least level shown here; the files under DIR/logs have everything.",
)
def up(out: Output, data: Path, port_base: int, site_file: Path | None, least: str) -> None:
    """Start all services on this machine, on an embedded store, and keep them running.

    A service that dies is started again. Ctrl-C (or SIGTERM) drains everything in order; a second one kills.

    \b
    Examples
      wellspring up
      wellspring up --data /tmp/wellspring --port-base 0
      wellspring up --site deploy/sites/wiki.yaml --logs warning
    """
    chosen = site.read(site_file) if site_file is not None else site.DEFAULT
    base = port_base or ports.free_base()
    layout = chosen.layout(data.absolute(), base)
    up_and_running = False
    try:
        with running(data.absolute(), layout, out, least.upper()) as platform:
            up_and_running = True
            tell_addresses(out, platform)
            out.note("Ctrl-C drains and ends.")
            threading.Event().wait()
    except KeyboardInterrupt:
        # The way to end it, once it is up.
        if not up_and_running:
            raise
    out.note("everything is stored; all services have ended")


def tell_addresses(out: Output, platform: Platform) -> None:
    """Where everything is: a table, or one object."""
    addresses = platform.addresses
    if out.as_json:
        out.object({"ready": True, "data": str(platform.layout.data), "addresses": addresses})
        return
    rows: list[Row] = [
        ({}, (name, f"http://{address}" if name == "http" else address, WHAT[name.partition("-")[0]]))
        for name, address in addresses.items()
    ]
    out.line("")
    out.table(["service", "address", "what"], rows, "")
    out.line(f"\ndata and logs: {platform.layout.data}\n")
