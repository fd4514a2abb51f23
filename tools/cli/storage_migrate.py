"""`wellspring storage migrate`: the tables of the configured backend, made or brought to this release."""

import sys

import click

from services.storage import migrate as process


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def migrate(arguments: tuple[str, ...]) -> None:
    """Makes the tables of a storage server's backend, with the server's own configuration and options.

    \b
    Example
      wellspring storage migrate --config /etc/wellspring/storage.yaml
    """
    sys.argv = ["wellspring storage migrate", *arguments]
    sys.exit(process.main())
