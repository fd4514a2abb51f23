"""`wellspring session fence` and `unfence`: a data centre is shut out, and let in again."""

import click

from tools.cli.target import Target, target_options
from tools.cli.values import utf8


@click.command()
@click.argument("datacentre", callback=utf8)
@click.option("--reason", default="", callback=utf8, help="For the audit.")
@target_options
def fence(to: Target, datacentre: str, reason: str) -> None:
    """Shut DATACENTRE out: it serves nothing as soon as it hears of it, and the others wait for it no longer.

    Do so when it will be away for long: realms that are fail_closed refuse everywhere until then. What was revoked
    there before counts all the same wherever it is heard of.

    \b
    Example
      wellspring session fence dc2 --reason "burnt down"
    """
    with to.client() as client:
        client.session.fence_datacentre(datacentre, reason=reason)
    to.out.object({"datacentre": datacentre, "fenced": True}, f"{datacentre} is shut out")


@click.command()
@click.argument("datacentre", callback=utf8)
@target_options
def unfence(to: Target, datacentre: str) -> None:
    """Let DATACENTRE in again: it serves when it has heard all others, and has what they revoked.

    \b
    Example
      wellspring session unfence dc2
    """
    with to.client() as client:
        client.session.unfence_datacentre(datacentre)
    to.out.object({"datacentre": datacentre, "fenced": False}, f"{datacentre} is let in again")
