"""The platform that a command talks to, and the options that all commands share."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

import wellspring_client
from tools.cli.failures import JSON_KEY
from tools.cli.output import Output
from tools.platform import data_directory
from tools.platform.layout import fixed_ports
from wellspring_client.sync import Client

SERVICES: Final = ("storage", "session", "propagation")
_KNOWN: Final = (*SERVICES, "gateway", "executor", "auditor", "http")


@dataclass(frozen=True)
class Target:
    """Where the services are, how long to wait for them, and where the answer goes."""

    out: Output
    data: Path
    addresses: dict[str, str]
    timeout_s: float

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of the three services; nothing is called yet."""
        named = {service: self.addresses[service] for service in SERVICES}
        with wellspring_client.connect(**named, timeout=self.timeout_s) as client:  # type: ignore[arg-type]
            yield client


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`; the command gets `out`, an Output."""

    @click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        callback=_remember,
        help="Answer in JSON, one object a line; errors as well.",
    )
    @functools.wraps(command)
    def wrapped(as_json: bool, **given: Any) -> Any:
        return command(out=Output(as_json), **given)

    return wrapped


def _remember(context: click.Context, option: click.Parameter, as_json: bool) -> bool:
    context.meta[JSON_KEY] = as_json
    return as_json


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--data DIR`."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="WELLSPRING_DATA",
        default=data_directory.default_path,
        show_default="~/.local/share/wellspring",
        help="The platform's data directory.",
    )(command)


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which platform; the command gets `to`, a Target."""

    @json_option
    @data_option
    @click.option(
        "--address",
        "given",
        multiple=True,
        metavar="SERVICE=HOST:PORT",
        envvar="WELLSPRING_ADDRESS",
        help="Where a service is, when that is not the platform of --data on this machine.",
    )
    @click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(0.01, 3600),
        default=10.0,
        show_default=True,
        help="Seconds for a call.",
    )
    @functools.wraps(command)
    def wrapped(out: Output, data: Path, given: tuple[str, ...], timeout_s: float, **more: Any) -> Any:
        return command(to=Target(out, data, find(data, given), timeout_s), **more)

    return wrapped


def find(data: Path, given: tuple[str, ...] = ()) -> dict[str, str]:
    """Addresses by service: those given, else what the data directory says, else the fixed ports."""
    described = data_directory.read(data)
    ports = described.ports if described is not None else fixed_ports()
    addresses = {name: f"127.0.0.1:{port}" for name, port in {**fixed_ports(), **ports}.items()}
    for one in given:
        service, equals, address = one.partition("=")
        if not equals or service not in _KNOWN or not _is_address(address):
            raise click.UsageError(
                f"--address: {one!r} is not SERVICE=HOST:PORT with SERVICE one of {', '.join(_KNOWN)}"
            )
        addresses[service] = address
    return addresses


def _is_address(address: str) -> bool:
    host, colon, port = address.rpartition(":")
    if address.startswith("unix:/"):
        return True
    return bool(host) and bool(colon) and port.isdigit() and 0 < int(port) < 65536
