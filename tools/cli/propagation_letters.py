"""`wellspring propagation dead-letters`: renders that were given up, tried again or let go."""

from collections.abc import Callable, Iterator
from typing import Any

import click

from tools.cli.output import iso
from tools.cli.target import Target, target_options
from tools.cli.values import utf8
from wellspring.propagation.v1 import propagation_admin_pb2 as pb


@click.group("dead-letters")
def dead_letters() -> None:
    """Renders that failed for good: list, replay, discard."""


def _filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, text in (
        ("reason", "Only those that failed for this reason."),
        ("root", "Only those of this change."),
        ("resource-prefix", "Only resources that begin so."),
        ("view", "Only of this view."),
    ):
        command = click.option(f"--{name}", default="", callback=utf8, help=text)(command)
    return command


@dead_letters.command("list")
@_filter_options
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@target_options
def list_(to: Target, limit: int, **chosen: Any) -> None:
    """List dead letters, with the reason of each.

    \b
    Examples
      wellspring propagation dead-letters list
      wellspring propagation dead-letters list --reason TIMEOUT --json
    """

    def rows() -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
        for letter, _ in zip(client.propagation.admin.dead_letters(**chosen), range(limit), strict=False):
            cells = (letter.view, letter.resource, letter.reason, letter.detail, str(letter.attempts))
            yield _told(letter), (*cells, iso(letter.last_time))

    with to.client() as client:
        columns = ["view", "resource", "reason", "detail", ">attempts", "last try"]
        to.out.table(columns, rows(), "no dead letters")


@dead_letters.command()
@_filter_options
@click.option("--all", "everything", is_flag=True, help="All of them.")
@target_options
def replay(to: Target, everything: bool, **chosen: Any) -> None:
    """Try dead letters again: those that the options choose, or --all.

    \b
    Example
      wellspring propagation dead-letters replay --view html
    """
    _need_choice(everything, chosen)
    with to.client() as client:
        count = client.propagation.admin.replay_dead_letters(**chosen)
    to.out.object({"replayed": count}, f"{count} are pending again")


@dead_letters.command()
@click.argument("why", callback=utf8)
@_filter_options
@click.option("--all", "everything", is_flag=True, help="All of them.")
@target_options
def discard(to: Target, why: str, everything: bool, **chosen: Any) -> None:
    """Give dead letters up for good, and say WHY: those that the options choose, or --all.

    \b
    Example
      wellspring propagation dead-letters discard "the pages were deleted" --resource-prefix enwiki/page/Old
    """
    _need_choice(everything, chosen)
    with to.client() as client:
        count = client.propagation.admin.discard_dead_letters(why, **chosen)
    to.out.object({"discarded": count}, f"{count} were given up")


def _need_choice(everything: bool, chosen: dict[str, Any]) -> None:
    if everything == any(chosen.values()):
        raise click.UsageError("choose with --view, --resource-prefix, --root or --reason, or say --all")


def _told(letter: pb.DeadLetter) -> dict[str, Any]:
    return {
        "view": letter.view,
        "resource": letter.resource,
        "root": letter.root,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "first_time": iso(letter.first_time),
        "last_time": iso(letter.last_time),
    }
