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
