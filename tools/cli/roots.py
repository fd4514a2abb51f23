"""A change's progress: as an object, as a line, as a live bar."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tools.cli.output import escape, iso
from wellspring.propagation.v1 import propagation_pb2 as pb

FINISHED = (pb.Root.STATE_DONE, pb.Root.STATE_DONE_WITH_FAILURES, pb.Root.STATE_CANCELLED)
_COUNTS = ("total", "done", "changed", "unchanged", "coalesced", "failed", "retrying", "held_back", "leased", "levels")


def state(root: pb.Root) -> str:
    """The state in words: active, paused, done, cancelled, done with failures."""
    return pb.Root.State.Name(root.state).removeprefix("STATE_").lower().replace("_", " ")


def told(root: pb.Root) -> dict[str, Any]:
    """A root for programs."""
    progress = root.progress
    counts = {name: getattr(progress, name) for name in _COUNTS}
    return {
        "id": root.change.id,
        "resource": root.change.resource,
        "aspects": list(root.change.aspects),
        "version": root.change.version.hex(),
        "cause": {"kind": root.change.cause.kind, "causer": root.change.cause.causer},
        "state": state(root),
        "lane": root.lane,
        "weight": root.weight,
        "sequence": root.sequence,
        "accept_time": iso(root.accept_time),
        "finish_time": iso(root.finish_time),
        "superseded_by": root.superseded_by,
        "left": root.left,
        **counts,
        "rate_per_s": round(progress.rate_per_s, 1),
        "eta_s": round(progress.eta.ToNanoseconds() / 1e9, 1),
        "renderer_seconds": round(progress.renderer_seconds, 3),
    }


def about(root: pb.Root) -> str:
    """The resource that changed; for pages rendered again by hand, their view."""
    view = root.change.attributes.get("rerender", "")
    return root.change.resource or (f"{view} again" if view else "several")


def summary(root: pb.Root) -> str:
    """How it stands, in one line."""
    progress = root.progress
    parts = [f"{state(root)}: {progress.done} of {progress.total}"]
    for name in ("changed", "unchanged", "coalesced", "failed", "retrying"):
        if count := getattr(progress, name):
            parts.append(f"{count} {name}")
    if progress.held_back:
        parts.append(f"{progress.held_back} wait for their source")
    if root.superseded_by:
        parts.append(f"the rest went to {root.superseded_by}")
    return ", ".join(parts)


class LiveBar:
    """A bar that follows a root; use it as a context manager and call `show` with each state."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("[green]{task.fields[changed]}[/] [dim]{task.fields[more]}[/]"),
            TimeElapsedColumn(),
            console=console,
            transient=False,
        )
        self._task = self._progress.add_task("waiting", total=None, changed="", more="")

    def __enter__(self) -> "LiveBar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def count(self, what: str, done: int, total: int) -> None:
        """Draws a plain count."""
        self._progress.update(self._task, description=what, total=total, completed=done)

    def show(self, root: pb.Root) -> None:
        """Draws the state."""
        progress = root.progress
        more = [f"{progress.unchanged} unchanged"] if progress.unchanged else []
        more += [f"{progress.failed} failed"] if progress.failed else []
        more += [f"{progress.rate_per_s:.0f}/s"] if progress.rate_per_s else []
        more += [f"{progress.eta.ToNanoseconds() / 1e9:.0f} s left"] if progress.eta.ToNanoseconds() else []
        self._progress.update(
            self._task,
            description=escape(f"{about(root)} {state(root)}"),
            # Nothing to do is all done: a bar without a total would run for ever.
            total=progress.total or (1 if root.state in FINISHED else None),
            completed=progress.done or (1 if root.state in FINISHED and not progress.total else 0),
            changed=f"{progress.changed} changed",
            more=" · ".join(more),
        )


def rows(roots: Iterable[pb.Root]) -> Iterable[tuple[dict[str, Any], tuple[str, ...]]]:
    """Roots as rows of a table: id, resource, state, done, changed, unchanged, failed, accepted."""
    for root in roots:
        progress = root.progress
        cells = (
            root.change.id,
            about(root),
            state(root),
            f"{progress.done}/{progress.total}",
            str(progress.changed),
            str(progress.unchanged),
            str(progress.failed),
            iso(root.accept_time),
        )
        yield told(root), cells


COLUMNS = ("id", "resource", "state", ">done", ">changed", ">unchanged", ">failed", "accepted")
