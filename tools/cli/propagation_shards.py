"""`wellspring propagation shards`: how many there are, and made more."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from tools.cli.output import counted
from tools.cli.target import Target, target_options
from wellspring.propagation.v1 import propagation_admin_pb2 as pb
from wellspring_client.errors import Unavailable
from wellspring_client.sync import Client

_LOOK_S = 0.5


@click.group()
def shards() -> None:
    """The shards of several engines: how many there are, and made more."""


@shards.command()
@target_options
def status(to: Target) -> None:
    """How many shards there are, which of them are led, and how far a growth of their number is.

    \b
    Example
      wellspring propagation shards status --json
    """
    with to.client() as client:
        state = client.propagation.admin.shards()
    to.out.object(told(state), text(state))


@shards.command()
@click.option("--to", "wanted", type=click.IntRange(2, 64), required=True, help="A multiple of what there are.")
@click.option("--dry-run", is_flag=True, help="Say what it would take; change nothing.")
@click.option("--no-wait", is_flag=True, help="End when it is durable that it will be done.")
@target_options
def grow(to: Target, wanted: int, dry_run: bool, no_wait: bool) -> None:
    """Make the shards more. Each goes on as equally many, and there is no way back.

    Each shard's log is ended by the engine that leads it; when all have ended, the engines go on with new ones. Calls
    wait meanwhile, or are told to come again. It is done by the engines, whoever is killed: this command only looks on,
    and may be ended or given again.

    \b
    Examples
      wellspring propagation shards grow --to 8 --dry-run
      wellspring propagation shards grow --to 8
    """
    with to.client() as client:
        if dry_run:
            state = client.propagation.admin.grow_shards(wanted, validate_only=True)
            pages = client.propagation.admin.status().resources
            said = (
                f"{counted(state.shards, 'shard')} would go on as {wanted}, each as {wanted // state.shards}; each of"
                f" these begins with a copy of the store of before ({pages} names in all), out of which the rest is"
                " taken, and cannot be called meanwhile; engines with an empty directory need the former logs until"
                " each of the new ones has two snapshots"
            )
            to.out.object(told(state) | {"wanted": wanted}, said)
            return
        state = client.propagation.admin.grow_shards(wanted)
        _show(to, state)
        if not no_wait:
            follow(to, client, wanted, time.sleep)


def follow(to: Target, client: Client, wanted: int, sleep: Callable[[float], object]) -> None:
    """Shows each step until all of so many shards are led. Engines that turn to the new ones are waited for."""
    before: pb.ShardsState | None = None
    while True:
        try:
            state = client.propagation.admin.shards()
        except Unavailable:
            pass  # the engine that was asked turns to the new ones
        else:
            if state != before:
                _show(to, state)
            before = state
            if state.shards >= wanted and len(state.led) == state.shards and not state.growing_to:
                return
        sleep(_LOOK_S)


def _show(to: Target, state: pb.ShardsState) -> None:
    to.out.object(told(state), text(state))
    sys.stdout.flush()


def told(state: pb.ShardsState) -> dict[str, Any]:
    """For programs."""
    return {
        "generation": state.generation,
        "shards": state.shards,
        "led": list(state.led),
        "growing_to": state.growing_to,
        "sealed": list(state.sealed),
        "former_log_needed_by": list(state.former_log_needed_by),
    }


def text(state: pb.ShardsState) -> str:
    """For people."""
    said = f"{counted(state.shards, 'shard')}, {len(state.led)} led"
    if state.growing_to:
        return f"{said}; growing to {state.growing_to}: {len(state.sealed)} of {state.shards} sealed"
    if state.former_log_needed_by:
        said += f"; the former log is needed by {_listed(state.former_log_needed_by)}"
    return said


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
