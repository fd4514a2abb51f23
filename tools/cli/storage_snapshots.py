"""`wellspring storage snapshots`: taken, listed, restored, deleted."""

from typing import Any

import click

from tools.cli.output import counted, iso, plain
from tools.cli.output import size as size_text
from tools.cli.storage_operations import follow, told
from tools.cli.target import Target, target_options
from tools.cli.values import utf8
from wellspring.storage.v1 import storage_admin_pb2 as pb


@click.group()
def snapshots() -> None:
    """Snapshots: a namespace at one moment, kept by the server."""


_no_wait = click.option("--no-wait", is_flag=True, help="Answer once it has begun; follow it by its name.")


@snapshots.command()
@click.argument("namespace", callback=utf8)
@click.argument("snapshot", callback=utf8)
@_no_wait
@target_options
def take(to: Target, namespace: str, snapshot: str, no_wait: bool) -> None:
    """Take a snapshot of a namespace under a name of its own.

    \b
    Examples
      wellspring storage snapshots take notes notes-2026-11-22
      wellspring storage snapshots take wiki before-upgrade --no-wait --json
    """
    with to.client() as client:
        begun = client.storage.take_snapshot(namespace, snapshot)
        if no_wait:
            to.out.object(told(begun), f"begun: wellspring storage operations wait {begun.name}")
            return
        made = follow(to.out, client, begun).snapshot
    to.out.object(_told(made), f"snapshot {made.name}: {counted(made.records, 'record')}, {size_text(made.bytes)}")


@snapshots.command("list")
@click.option("--namespace", default="", callback=utf8, help="Only those of this namespace.")
@target_options
def list_(to: Target, namespace: str) -> None:
    """List snapshots.

    \b
    Example
      wellspring storage snapshots list --namespace notes
    """
    with to.client() as client:
        rows = ((_told(one), _cells(one)) for one in client.storage.list_snapshots(namespace))
        nothing = "no snapshots; wellspring storage snapshots take NAMESPACE SNAPSHOT makes one"
        to.out.table(["name", "of", "taken", ">records", ">size"], rows, nothing)


@snapshots.command()
@click.argument("snapshot", callback=utf8)
@click.argument("namespace", callback=utf8)
@_no_wait
@target_options
def restore(to: Target, snapshot: str, namespace: str, no_wait: bool) -> None:
    """Make a new namespace out of a snapshot.

    It has the settings that the namespace had, but is bound to nothing.

    \b
    Example
      wellspring storage snapshots restore notes-2026-11-22 notes-restored
    """
    with to.client() as client:
        begun = client.storage.restore_snapshot(snapshot, namespace)
        if no_wait:
            to.out.object(told(begun), f"begun: wellspring storage operations wait {begun.name}")
            return
        ended = follow(to.out, client, begun)
    to.out.object(plain(ended.namespace) | {"items": ended.done}, f'namespace "{namespace}" is ready')
    to.out.note("it is bound to nothing, whatever it was made of")


@snapshots.command()
@click.argument("snapshot", callback=utf8)
@target_options
def delete(to: Target, snapshot: str) -> None:
    """Delete a snapshot.

    \b
    Example
      wellspring storage snapshots delete notes-2026-11-22
    """
    with to.client() as client:
        client.storage.delete_snapshot(snapshot)
    to.out.object({"name": snapshot, "deleted": True}, f"snapshot {snapshot} is deleted")


def _told(one: pb.Snapshot) -> dict[str, Any]:
    return plain(one) | {"records": one.records, "items": one.items, "bytes": one.bytes, "damaged": not one.checksum}


def _cells(one: pb.Snapshot) -> tuple[str, ...]:
    if not one.checksum:
        return one.name, "damaged", "", "", ""
    return one.name, one.namespace, iso(one.create_time), f"{one.records:,}", size_text(one.bytes)
