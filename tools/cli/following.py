"""Changes followed: one to its end, with a bar or as objects; all of them as they are accepted, outputs included."""

import sys
import time
from typing import Any

from tools.cli import roots
from tools.cli.failures import FAILED, NOT_FOUND, Failure
from tools.cli.output import iso
from tools.cli.target import Target
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring_client.errors import NotFound
from wellspring_client.sync import Client

_ARRIVAL_S = 30.0
PATIENCE_S = 10.0
"""How long the sources of all that is left may lag before a publisher is told: replicas are seconds behind at most."""


def arrive(client: Client, change_id: str) -> None:
    """Waits until a stored edit has come to the engine by the feed."""
    end = time.monotonic() + _ARRIVAL_S
    while time.monotonic() < end:
        try:
            client.propagation.get_change(change_id)
            return
        except NotFound:
            time.sleep(0.02)
    raise Failure(
        f"the edit is stored, but did not come to propagation within {_ARRIVAL_S:.0f} s: "
        "`wellspring propagation status` shows who follows what",
        FAILED,
    )


def follow(to: Target, client: Client, change_id: str, interval_s: float, *, patience_s: float | None = None) -> None:
    """Shows progress to the end. Raises Failure when it did not end well.

    With a patience also when all that is left waits for its sources for so long: they may never show the version.
    """
    last: pb.Root | None = None
    watched = client.propagation.watch_change(change_id, interval_s=interval_s)
    console = to.out.console(stderr=True)
    waiting = _HeldBack(to, patience_s)
    if to.out.as_json or not console.is_terminal:
        for last in watched:
            if to.out.as_json:
                to.out.object(roots.told(last))
                sys.stdout.flush()
            waiting.look(last)
    else:
        with roots.LiveBar(console) as bar:
            for last in watched:
                bar.show(last)
                waiting.look(last)
    if last is None:
        raise Failure(f"nothing is known of the change {change_id}", NOT_FOUND)
    to.out.line(roots.summary(last))
    if last.state == pb.Root.STATE_DONE_WITH_FAILURES:
        raise Failure(f"{last.progress.failed} renders failed: wellspring propagation dead-letters list", FAILED)
    if last.state == pb.Root.STATE_CANCELLED:
        raise Failure(f"the change was cancelled; {last.left} renders were given up", FAILED)


class _HeldBack:
    """Says that renders wait for their source, once; and gives up when that is all that is left for too long."""

    def __init__(self, to: Target, patience_s: float | None) -> None:
        self._to = to
        self._patience_s = patience_s
        self._since_s: float | None = None

    def look(self, root: pb.Root) -> None:
        """Looks at the newest progress. Raises Failure when the patience is over."""
        progress = root.progress
        left = progress.total - progress.done - progress.failed
        if not progress.held_back or progress.held_back < left:
            self._since_s = None
            return
        why = (
            f"held back: {progress.held_back} of {left} renders that are left saw an older version of"
            f" {root.change.resource or 'their source'} than the change's, {root.change.version.hex()}"
        )
        if self._since_s is None:
            self._since_s = time.monotonic()
            self._to.out.note(why)
        elif self._patience_s is not None and time.monotonic() - self._since_s >= self._patience_s:
            raise Failure(
                f"{why}. They are rendered once it is there: a record that is stored here changes by `wellspring"
                f" propagation edit`, and `wellspring propagation cancel {root.change.id}` gives them up",
                FAILED,
                "HELD_BACK",
            )


def follow_all(to: Target, client: Client, *, outputs: bool, resume: str, beginning: bool, limit: int | None) -> None:
    """Tells changes, and outputs if asked, as they are accepted: for ever, or so many."""
    count = 0
    for answer in client.propagation.watch_changes(
        resume_token=resume, from_beginning=beginning, include_outputs=outputs
    ):
        for at, event in enumerate(answer.events):
            # A token tells that all before it was seen; within an answer only its last event may carry one.
            token = answer.resume_token if at == len(answer.events) - 1 else ""
            change = event.change
            hash_ = f"  {event.output_hash.hex()}" if event.output_hash else ""
            text = f"{event.sequence}  {change.resource}  {','.join(change.aspects)}  {change.version.hex()}{hash_}"
            to.out.object(_told(event) | {"resume_token": token}, text)
            count += 1
            if count == limit:
                return
        sys.stdout.flush()


def _told(event: pb.WatchChangesResponse.Event) -> dict[str, Any]:
    change = event.change
    return {
        "sequence": event.sequence,
        "id": change.id,
        "resource": change.resource,
        "aspects": list(change.aspects),
        "version": change.version.hex(),
        "time": iso(change.time),
        "cause": {"kind": change.cause.kind, "causer": change.cause.causer, "chain": list(change.cause.chain)},
        "output_hash": event.output_hash.hex(),
    }
