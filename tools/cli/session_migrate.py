"""`wellspring session migrate`: the tables of the configured backend, made or brought to this release."""

import sys

import click

from services.session import migrate as process


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def migrate(arguments: tuple[str, ...]) -> None:
    """Makes the tables of a session server's backend, with the server's own configuration and options.

    \b
    Example
      wellspring session migrate --config /etc/wellspring/session.yaml
    """
    sys.argv = ["wellspring session migrate", *arguments]
    sys.exit(process.main())
