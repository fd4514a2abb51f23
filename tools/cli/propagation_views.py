"""`wellspring propagation views` and `status`: what is rendered from what, and the engine in figures."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import click

from services.propagation.views.parsing import Defaults, mistakes_in
from tools.cli.failures import BAD_DATA, Failure
from tools.cli.output import Row, counted, iso, plain, size
from tools.cli.target import Target, target_options
from wellspring.propagation.v1 import propagation_admin_pb2


class Told(Protocol):
    """A mistake, wherever it was found."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...

    @property
    def what(self) -> str: ...

    @property
    def allowed(self) -> str: ...


_FILE = click.Path(path_type=Path, dir_okay=False)
_SNAPSHOT_COLUMNS = ["snapshots of shard", "newest", ">size", ">newer waits for", ">log begins at", "error"]


@click.group()
def views() -> None:
    """The views of the deployment: what is rendered, how, where it is stored and purged."""


@views.command()
@click.argument("file", type=_FILE)
@click.option("--offline", is_flag=True, help="Ask no service: which data centres it knows is then not looked at.")
@target_options
def check(to: Target, file: Path, offline: bool) -> None:
    """Find every mistake in a views file, with its place; nothing is changed.

    \b
    Examples
      wellspring propagation views check deploy/sites/wiki-views.yaml
      wellspring propagation views check deploy/sites/wiki-views.yaml --offline
    """
    text = file_text(file)
    if offline:
        found, mistakes = mistakes_in(text, Defaults())
        refuse_mistakes(
            to, file, [replace(one, what=f"{one.path}: {one.what}" if one.path else one.what) for one in mistakes]
        )
        names = [view.name for view in found]
    else:
        with to.client() as client:
            answer = client.propagation.admin.validate_views(text)
        refuse_mistakes(to, file, answer.mistakes)
        names = [view.name for view in answer.views]
    to.out.object(
        {"file": str(file), "views": names}, f"{file}: good, {counted(len(names), 'view')}: {', '.join(names)}"
    )


@views.command()
@click.argument("file", type=_FILE)
@click.option("--if-revision", type=click.IntRange(1), help="Only when this is the revision in force.")
@target_options
def put(to: Target, file: Path, if_revision: int | None) -> None:
    """Make the views in FILE all the views of the deployment.

    \b
    Example
      wellspring propagation views put deploy/sites/wiki-views.yaml
    """
    with to.client() as client:
        answer = client.propagation.admin.put_views(file_text(file), if_revision=if_revision or 0)
    refuse_mistakes(to, file, answer.mistakes)
    to.out.object({"revision": answer.revision}, f"in force as revision {answer.revision}")


@views.command("list")
@target_options
def list_(to: Target) -> None:
    """List the views in force.

    \b
    Example
      wellspring propagation views list
    """
    with to.client() as client:
        answer = client.propagation.admin.list_views()
    rows = (
        (plain(view), (view.name, ", ".join(view.resource_prefixes), _renderer(view), view.store.namespace))
        for view in answer.views
    )
    to.out.table(["view", "covers", "rendered by", "stored in"], rows, "no views; `views put FILE` makes some")


@click.command()
@target_options
def status(to: Target) -> None:
    """The engine in figures: what it knows, what is pending, whom it follows.

    \b
    Example
      wellspring propagation status --json
    """
    with to.client() as client:
        answer = client.propagation.admin.status()
    names = ("epoch", "sequence", "resources", "edges", "pending", "leased", "retrying", "dead_letters", "active_roots")
    told: dict[str, Any] = {name: getattr(answer, name) for name in names}
    if to.out.as_json:
        lanes = [
            {"name": one.name, "weight": one.weight, "pending": one.pending, "roots": one.roots} for one in answer.lanes
        ]
        sources = [
            {"name": one.name, "last_canary_time": iso(one.last_canary_time), "overdue": one.overdue}
            for one in answer.sources
        ]
        followed = [
            {"namespace": one.namespace, "last_event_time": iso(one.last_event_time), "error": one.error}
            for one in answer.followers
        ]
        snapshots = [
            {
                "shard": one.shard,
                "newest_time": iso(one.newest_time),
                "size_bytes": one.size_bytes,
                "waiting_s": one.waiting.ToTimedelta().total_seconds(),
                "log_begins_at": one.log_begins_at,
                "error": one.error,
            }
            for one in answer.snapshots
        ]
        others = [{"engine": one.engine, "settings": list(one.settings)} for one in answer.other_settings]
        parts = {"lanes": lanes, "followers": followed, "sources": sources, "snapshots": snapshots}
        to.out.object(told | parts | {"other_settings": others})
        return
    to.out.object({name.replace("_", " "): value for name, value in told.items()})
    to.out.line("")
    lane_rows: list[Row] = [({}, (one.name, str(one.weight), str(one.pending), str(one.roots))) for one in answer.lanes]
    to.out.table(["lane", ">weight", ">pending", ">changes"], lane_rows, "no lanes")
    to.out.line("")
    follow_cells = [(one.namespace, iso(one.last_event_time), one.error or "none") for one in answer.followers]
    nothing = "no namespace is bound to propagation"
    to.out.table(["follows", "last change", "error"], [({}, cells) for cells in follow_cells], nothing)
    if answer.sources:
        to.out.line("")
        watched: list[Row] = [
            ({}, (one.name, iso(one.last_canary_time), "overdue" if one.overdue else "heard")) for one in answer.sources
        ]
        to.out.table(["source", "last canary", "state"], watched, "no source is watched")
    if answer.snapshots:
        to.out.line("")
        to.out.table(_SNAPSHOT_COLUMNS, [({}, _snapshot_cells(one)) for one in answer.snapshots], "no snapshots")
    if answer.other_settings:
        to.out.line("")
        other_rows: list[Row] = [({}, (one.engine, ", ".join(one.settings))) for one in answer.other_settings]
        to.out.table(["engine", "differs from the first shard's in"], other_rows, "no engine differs")


def _snapshot_cells(one: propagation_admin_pb2.ShardSnapshots) -> tuple[str, ...]:
    newest = iso(one.newest_time) if one.HasField("newest_time") else "none yet"
    waiting = f"{one.waiting.ToSeconds()} s"
    return (str(one.shard), newest, size(one.size_bytes), waiting, str(one.log_begins_at), one.error or "none")


def file_text(file: Path) -> str:
    """The text of a file. Raises Failure when it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Failure(f"{file} is not UTF-8", BAD_DATA) from None


def refuse_mistakes(to: Target, file: Path, mistakes: Iterable[Told]) -> None:
    """Tells every mistake, and raises Failure when there is one."""
    found = list(mistakes)
    for one in found:
        allowed_here = one.allowed.removeprefix("allowed: ")
        told: dict[str, Any] = {"line": one.line, "column": one.column, "what": one.what, "allowed": allowed_here}
        allowed = f" (allowed: {allowed_here})" if allowed_here else ""
        to.out.object(told, f"{file}:{one.line}:{one.column}: {one.what}{allowed}")
    if found:
        raise Failure(f"{file} has {len(found)} mistake{'s' if len(found) > 1 else ''}", BAD_DATA)


def _renderer(view: Any) -> str:
    render = view.render
    match render.WhichOneof("kind"):
        case "entry_point":
            return str(render.entry_point.function)
        case "http":
            return str(render.http.url)
        case "grpc":
            return str(render.grpc.address)
    return ""
