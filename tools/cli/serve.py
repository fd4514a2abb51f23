"""`wellspring serve`: one process of a deployment, in the foreground, as an init system runs it."""

import importlib
import sys

import click

from tools.platform.layout import MODULES


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("service", type=click.Choice(list(MODULES)))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(service: str, arguments: tuple[str, ...]) -> None:
    """Runs one SERVICE in the foreground, with its own options.

    \b
    Examples
      wellspring serve storage --config /etc/wellspring/storage.yaml
      wellspring serve storage --print-config --config storage.yaml
      wellspring serve storage --help
    """
    sys.argv = [f"wellspring serve {service}", *arguments]
    sys.exit(importlib.import_module(MODULES[service]).main())


@click.command("purge-relay", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def purge_relay(arguments: tuple[str, ...]) -> None:
    """Runs the purge relay of a host of caches in the foreground: what topics say is purged here.

    \b
    Examples
      wellspring purge-relay --config /etc/wellspring/relay.yaml
      wellspring purge-relay --print-config --config relay.yaml
    """
    sys.argv = ["wellspring purge-relay", *arguments]
    sys.exit(importlib.import_module(MODULES["relay"]).main())
