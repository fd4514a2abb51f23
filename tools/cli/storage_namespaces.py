"""`wellspring storage namespaces`: made, shown, listed, ended."""

import datetime
from typing import Any, Literal

import click

from tools.cli.output import iso, plain
from tools.cli.target import Target, target_options
from tools.cli.values import duration, utf8
from wellspring.storage.v1 import storage_admin_pb2 as pb


@click.group()
def namespaces() -> None:
    """Namespaces: a team's records, ready in one call."""


@namespaces.command()
@click.argument("name", callback=utf8)
@click.option(
    "--mode",
    type=click.Choice(["LWW", "CAS"], case_sensitive=False),
    default="LWW",
    show_default=True,
    help="LWW: the last writer wins. CAS: conditional writes. Never changed later.",
)
@click.option("--bind", "prefix", callback=utf8, help="Changes are propagation's, as resources PREFIX + record.")
@click.option("--lane", default="", help="The lane of those changes.")
@click.option("--description", default="", callback=utf8, help="For people.")
@target_options
def create(to: Target, name: str, mode: Literal["LWW", "CAS"], prefix: str | None, lane: str, description: str) -> None:
    """Make a namespace; the same again changes nothing.

    \b
    Examples
      wellspring storage namespaces create notes --mode CAS
      wellspring storage namespaces create wiki --bind enwiki/page/ --description wikitext
    """
    if lane and prefix is None:
        raise click.UsageError("--lane is of a namespace that is bound to propagation: --bind PREFIX")
    with to.client() as client:
        made = client.storage.create_namespace(
            name, mode=mode, resource_prefix=prefix, lane=lane, description=description
        )
    to.out.object(_told(made), f'namespace "{made.name}" is ready ({_mode(made)})')


@namespaces.command("list")
@click.option("--deleted", is_flag=True, help="Also those that are being deleted.")
@target_options
def list_(to: Target, deleted: bool) -> None:
    """List namespaces.

    \b
    Example
      wellspring storage namespaces list --json
    """
    with to.client() as client:
        rows = (
            (_told(one), (one.name, _mode(one), one.binding.resource_prefix, _state(one), one.description))
            for one in client.storage.list_namespaces(show_deleting=deleted)
        )
        nothing = "no namespaces; wellspring storage namespaces create NAME makes one"
        to.out.table(["name", "mode", "bound as", "state", "description"], rows, nothing)


@namespaces.command()
@click.argument("name", callback=utf8)
@target_options
def get(to: Target, name: str) -> None:
    """Show a namespace's settings.

    \b
    Example
      wellspring storage namespaces get notes
    """
    with to.client() as client:
        to.out.object(_told(client.storage.get_namespace(name)))


@namespaces.command()
@click.argument("name", callback=utf8)
@click.option("--grace", callback=duration, help="How long it can be taken back: 1h, 7d; the server's default if not.")
@click.option("--allow-missing", is_flag=True, help="It is no mistake when it is not there.")
@target_options
def delete(to: Target, name: str, grace: datetime.timedelta | None, allow_missing: bool) -> None:
    """Delete a namespace: refused to readers and writers at once, gone after a grace.

    \b
    Example
      wellspring storage namespaces delete notes --grace 1h
    """
    with to.client() as client:
        ended = client.storage.delete_namespace(name, grace=grace, allow_missing=allow_missing)
    if not ended.name:
        to.out.object({"name": name, "deleted": False}, f'there was no namespace "{name}"')
        return
    until = iso(ended.purge_time)
    text = f'namespace "{name}" is being deleted; until {until}: wellspring storage namespaces undelete {name}'
    to.out.object(_told(ended), text)


@namespaces.command()
@click.argument("name", callback=utf8)
@target_options
def undelete(to: Target, name: str) -> None:
    """Take a delete back, within its grace.

    \b
    Example
      wellspring storage namespaces undelete notes
    """
    with to.client() as client:
        made = client.storage.undelete_namespace(name)
    to.out.object(_told(made), f'namespace "{name}" is there again')


def _told(namespace: pb.Namespace) -> dict[str, Any]:
    return plain(namespace)


def _mode(namespace: pb.Namespace) -> str:
    return pb.Mode.Name(namespace.mode).removeprefix("MODE_")


def _state(namespace: pb.Namespace) -> str:
    return pb.Namespace.State.Name(namespace.state).removeprefix("STATE_").lower()
