"""`wellspring storage operations`: long-running work listed, followed, cancelled; how other commands wait for it."""

from typing import Any, Final

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tools.cli.failures import FAILED, INTERRUPTED, Failure
from tools.cli.output import Output, iso, plain
from tools.cli.target import Target, target_options
from tools.cli.values import utf8
from wellspring.storage.v1 import storage_admin_pb2 as pb
from wellspring_client.errors import from_status
from wellspring_client.sync import Client

_RUNNING: Final = pb.Operation.STATE_RUNNING


@click.group()
def operations() -> None:
    """Long-running work: snapshots, restores, re-bucketing."""


@operations.command("list")
@click.option("--target", default="", callback=utf8, help="Only those on this namespace or snapshot.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, newest first.")
@target_options
def list_(to: Target, target: str, limit: int) -> None:
    """List operations; one is kept for 30 days after its end.

    \b
    Example
      wellspring storage operations list --target notes
    """
    with to.client() as client:
        found = zip(range(limit), client.storage.list_operations(target), strict=False)
        rows = ((told(one), _cells(one)) for _, one in found)
        to.out.table(["id", "kind", "target", "state", ">done", "begun"], rows, "no operations")


@operations.command()
@click.argument("name", callback=utf8)
@target_options
def get(to: Target, name: str) -> None:
    """Show an operation as it is now.

    \b
    Example
      wellspring storage operations get snapshot-00660def40344ab3a926ca1
    """
    with to.client() as client:
        to.out.object(told(client.storage.get_operation(name)))


@operations.command()
@click.argument("name", callback=utf8)
@target_options
def wait(to: Target, name: str) -> None:
    """Wait for the end of an operation, with a bar; fails as it fails.

    \b
    Example
      wellspring storage operations wait restore-00660def40344ab3a926ca1
    """
    with to.client() as client:
        ended = follow(to.out, client, client.storage.get_operation(name))
        to.out.object(told(ended), f"{ended.name} has ended well")


@operations.command()
@click.argument("name", callback=utf8)
@target_options
def cancel(to: Target, name: str) -> None:
    """Ask for the end of an operation: it stops at the next safe point and leaves nothing behind.

    \b
    Example
      wellspring storage operations cancel restore-00660def40344ab3a926ca1
    """
    with to.client() as client:
        asked = client.storage.cancel_operation(name)
    running = asked.state == _RUNNING
    to.out.object(told(asked), f"{name} was asked to stop" if running else f"{name} had ended before: {_state(asked)}")


def follow(out: Output, client: Client, operation: pb.Operation) -> pb.Operation:
    """The operation at its end, with a bar on a terminal. Raises Failure when it did not end well."""
    ended = operation
    with Bar(out, operation.kind) as shown:
        for seen in client.storage.follow_operation(operation.name):
            ended = seen
            shown.update(ended.done, ended.total)
    if ended.state == pb.Operation.STATE_FAILED:
        error = from_status(ended.error)
        raise Failure(f"{ended.kind} of {ended.target}: {error.message}", FAILED, error.reason)
    if ended.state == pb.Operation.STATE_CANCELLED:
        raise Failure(f"{ended.name} was cancelled", INTERRUPTED, "CANCELLED")
    return ended


def told(operation: pb.Operation) -> dict[str, Any]:
    """An operation for programs."""
    return plain(operation) | {"state": _state(operation), "done": operation.done, "total": operation.total}


class Bar:
    """A progress bar on a terminal; nothing elsewhere, nor for programs."""

    def __init__(self, out: Output, what: str) -> None:
        console = out.console(stderr=True)
        columns = (TextColumn(what), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, disable=out.as_json or not console.is_terminal)
        self._task = self._progress.add_task(what, total=None)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def update(self, done: int, total: int) -> None:
        """So much is done; ``total`` 0 is not known."""
        self._progress.update(self._task, completed=done, total=total or None)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _cells(one: pb.Operation) -> tuple[str, ...]:
    return one.name, one.kind, one.target, _state(one), _done(one), iso(one.start_time)


def _state(operation: pb.Operation) -> str:
    return pb.Operation.State.Name(operation.state).removeprefix("STATE_").lower()


def _done(operation: pb.Operation) -> str:
    return f"{operation.done:,}/{operation.total:,}" if operation.total else f"{operation.done:,}"
