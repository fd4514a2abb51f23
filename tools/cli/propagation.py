"""`wellspring propagation`: changes made, foreseen, followed, steered and explained."""

import os
import time
from pathlib import Path
from typing import Any

import click

from tools.cli import roots
from tools.cli.failures import Failure
from tools.cli.following import PATIENCE_S, arrive, follow, follow_all
from tools.cli.output import Row, iso
from tools.cli.propagation_audit import audit
from tools.cli.propagation_letters import dead_letters
from tools.cli.propagation_outputs import costs, outputs, purge, rerender
from tools.cli.propagation_rules import rules
from tools.cli.propagation_shards import shards
from tools.cli.propagation_views import status, views
from tools.cli.target import Target, target_options
from tools.cli.values import utf8, version
from wellspring.propagation.v1 import propagation_pb2 as pb

_STATES = {
    name.removeprefix("STATE_").lower().replace("_", "-"): number for name, number in pb.Root.State.items() if number
}


@click.group()
def propagation() -> None:
    """Changes, and the pages that follow from them."""


propagation.add_command(dead_letters)
propagation.add_command(rules)
propagation.add_command(views)
propagation.add_command(status)
propagation.add_command(rerender)
propagation.add_command(outputs)
propagation.add_command(costs)
propagation.add_command(purge)
propagation.add_command(audit)
propagation.add_command(shards)


@propagation.command()
@click.argument("namespace", callback=utf8)
@click.argument("record", callback=utf8)
@click.argument("value", required=False, callback=utf8)
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="The new content is this file's.")
@click.option("--content-type", default="", help="A media type.")
@click.option("--no-wait", is_flag=True, help="Do not follow it to its end.")
@target_options
def edit(
    to: Target,
    namespace: str,
    record: str,
    value: str | None,
    file: Path | None,
    content_type: str,
    no_wait: bool,
) -> None:
    """Edit a record of a namespace that is bound to propagation: the estimate first, then progress to the end.

    \b
    Examples
      wellspring propagation edit wiki Template:Cite_web "{{{title}}} (new)"
      wellspring propagation edit wiki Main_Page --file main.wikitext
    """
    if (value is None) == (file is None):
        raise click.UsageError("give the new content as VALUE or with --file")
    data = value.encode() if value is not None else (file or Path()).read_bytes()
    with to.client() as client:
        binding = client.storage.get_namespace(namespace).binding
        if not binding.resource_prefix:
            raise Failure(f'namespace "{namespace}" is not bound to propagation: wellspring storage put stores a value')
        estimate = client.propagation.estimate(binding.resource_prefix + record, aspects=["content", "existence"])
        to.out.note(f"it will touch {sum(one.dependents for one in estimate.views)} outputs")
        receipt = client.storage.namespace(namespace).put(
            record, data, content_type=content_type, annotations={"cause": "edit"}
        )
        if no_wait:
            to.out.object({"change_id": receipt.change_id}, f"stored as change {receipt.change_id}")
        else:
            arrive(client, receipt.change_id)
            follow(to, client, receipt.change_id, 0.2)


@propagation.command()
@click.argument("resource", callback=utf8)
@click.option("--aspect", "aspects", multiple=True, help="What of it changed; its content when not given.")
@click.option("--version", "at", callback=version, help="32 hexadecimal digits; the present time when not given.")
@click.option("--id", "change_id", help="The change's id: the same again is acknowledged without effect.")
@click.option("--lane", default="", help="Its lane.")
@click.option("--wait", is_flag=True, help="Follow it to its end.")
@target_options
def publish(
    to: Target,
    resource: str,
    aspects: tuple[str, ...],
    at: bytes | None,
    change_id: str | None,
    lane: str,
    wait: bool,
) -> None:
    """Publish a change of a resource that is not stored here.

    What is rendered from it waits until its source shows this version: of a record that is stored here, use `edit`.

    \b
    Examples
      wellspring propagation publish catalogue/price/4711 --wait
      wellspring propagation publish catalogue/price/4711 --id deploy-17
    """
    # Microseconds and random bytes: versions of two publishers differ, later ones are greater.
    chosen = at or (time.time_ns() // 1000).to_bytes(8, "big") + os.urandom(8)
    with to.client() as client:
        cause = pb.Cause(kind="operator")
        result = client.propagation.change(resource, chosen, aspects=aspects, id=change_id, lane=lane, cause=cause)
        told = {"root": result.root, "sequence": result.sequence, "repeated": result.repeated_id}
        if result.root and wait:
            follow(to, client, result.root, 0.2, patience_s=PATIENCE_S)
            return
    effect = f"accepted as {result.root}" if result.root else "acknowledged; it was older than what is known"
    to.out.object(told, f"{effect}{' (again)' if result.repeated_id else ''}")


@propagation.command()
@click.argument("resource", callback=utf8)
@click.option("--aspect", "aspects", multiple=True, help="What of it would change; its content when not given.")
@target_options
def impact(to: Target, resource: str, aspects: tuple[str, ...]) -> None:
    """What an edit of RESOURCE would cost, before it is made.

    \b
    Example
      wellspring propagation impact enwiki/page/Template:Cite_web
    """
    with to.client() as client:
        answer = client.propagation.estimate(resource, aspects=aspects)
    listed = [
        {
            "view": one.view,
            "dependents": one.dependents,
            "predicted_render_seconds": round(one.predicted_render_seconds, 3),
            "predicted_unchanged_share": round(one.predicted_unchanged_share, 4),
            "predicted_seconds": round(one.predicted_seconds, 3),
        }
        for one in answer.views
    ]
    if to.out.as_json:
        told = {"resource": resource, "views": listed, "transitive": answer.transitive}
        to.out.object(told | {"lane_queue_ahead": answer.lane_queue_ahead})
        return
    rows: list[Row] = [({}, tuple(str(one[key]) for key in one)) for one in listed]
    columns = ["view", ">dependents", ">renderer seconds", ">share unchanged", ">seconds"]
    to.out.table(columns, rows, f"nothing depends on {resource}")
    to.out.line(f"{answer.transitive} through other outputs at most; {answer.lane_queue_ahead} pending ahead of it")


@propagation.command()
@click.argument("change_id", required=False, callback=utf8)
@click.option("--interval", type=click.FloatRange(0.1, 60), default=0.2, show_default=True, help="Seconds.")
@click.option("--outputs", is_flag=True, help="All changes instead, and the outputs that changed.")
@click.option("--all", "everything", is_flag=True, help="All changes instead, as they are accepted.")
@click.option("--from-beginning", is_flag=True, help="Of all: from the oldest that is remembered, not from now on.")
@click.option("--resume", default="", help="Of all: go on after the token that the last answer gave.")
@click.option("--limit", type=click.IntRange(1), help="Of all: end after so many.")
@target_options
def watch(
    to: Target,
    change_id: str | None,
    interval: float,
    outputs: bool,
    everything: bool,
    from_beginning: bool,
    resume: str,
    limit: int | None,
) -> None:
    """Follow a change to its end, with a live bar; or all changes, for ever.

    Status 1 when something failed or the change was cancelled.

    \b
    Examples
      wellspring propagation watch CHANGE_ID
      wellspring propagation watch --outputs --from-beginning --json
    """
    of_all = outputs or everything
    if of_all == (change_id is not None):
        raise click.UsageError("name a CHANGE_ID, or say --all or --outputs")
    if not of_all and (from_beginning or resume or limit):
        raise click.UsageError("--from-beginning, --resume and --limit go with --all or --outputs")
    with to.client() as client:
        if change_id is None:
            follow_all(to, client, outputs=outputs, resume=resume, beginning=from_beginning, limit=limit)
        else:
            client.propagation.get_change(change_id)
            follow(to, client, change_id, interval)


@propagation.command()
@click.argument("resource", callback=utf8)
@click.argument("view", callback=utf8)
@target_options
def explain(to: Target, resource: str, view: str) -> None:
    """Why a view of a resource is as it is: the newest decisions first.

    \b
    Example
      wellspring propagation explain enwiki/page/Earth html
    """
    with to.client() as client:
        answer = client.propagation.explain(resource, view)
    steps = [_step(step) for step in answer.steps]
    if to.out.as_json:
        told = {"resource": resource, "view": view, "pending": answer.pending, "rendered_at": answer.rendered_at}
        to.out.object(told | {"output_hash": answer.output_hash.hex(), "steps": steps})
        return
    rows: list[Row] = [
        ({}, (one["time"], one["decision"], one["root"], " → ".join(one["path"]), one["note"])) for one in steps
    ]
    to.out.table(["time", "decision", "change", "how it got here", "note"], rows, "no decision is known of it")
    to.out.line("it is pending" if answer.pending else f"it is up to date, rendered at {answer.rendered_at}")


@propagation.command()
@click.option("--state", "states", multiple=True, type=click.Choice(list(_STATES)), help="Only those in this state.")
@click.option("--resource", default="", callback=utf8, help="Only those of this resource.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
@target_options
def changes(to: Target, states: tuple[str, ...], resource: str, limit: int) -> None:
    """List changes, the newest first.

    \b
    Examples
      wellspring propagation changes --state active
      wellspring propagation changes --resource enwiki/page/Earth --json
    """
    wanted: Any = [_STATES[name] for name in states]
    with to.client() as client:
        found = client.propagation.list_changes(states=wanted, resource=resource)
        listed = (root for root, _ in zip(found, range(limit), strict=False))
        to.out.table(roots.COLUMNS, roots.rows(listed), "no changes")


@propagation.command()
@click.argument("change_id", callback=utf8)
@click.option("--reason", default="", callback=utf8, help="For whoever looks at it.")
@target_options
def pause(to: Target, change_id: str, reason: str) -> None:
    """Render nothing more of a change until it is resumed.

    \b
    Example
      wellspring propagation pause CHANGE_ID --reason "the renderer is broken"
    """
    with to.client() as client:
        root = client.propagation.pause(change_id, reason=reason)
    to.out.object(roots.told(root), roots.summary(root))


@propagation.command()
@click.argument("change_id", callback=utf8)
@target_options
def resume(to: Target, change_id: str) -> None:
    """Go on with a paused change.

    \b
    Example
      wellspring propagation resume CHANGE_ID
    """
    with to.client() as client:
        root = client.propagation.resume(change_id)
    to.out.object(roots.told(root), roots.summary(root))


@propagation.command()
@click.argument("change_id", callback=utf8)
@click.option("--reason", default="", callback=utf8, help="For whoever looks at it.")
@target_options
def cancel(to: Target, change_id: str, reason: str) -> None:
    """Give up what is left of a change; the list says how much that was.

    \b
    Example
      wellspring propagation cancel CHANGE_ID --reason "a mistake"
    """
    with to.client() as client:
        root = client.propagation.cancel(change_id, reason=reason)
    to.out.object(roots.told(root), f"{roots.summary(root)}, {root.left} given up")


@propagation.command()
@click.argument("change_id", callback=utf8)
@click.option("--lane", default="", help="Move it there.")
@click.option("--weight", type=click.IntRange(1, 100), help="Its share of its lane.")
@target_options
def reprioritize(to: Target, change_id: str, lane: str, weight: int | None) -> None:
    """Move a change to another lane, or weigh it within its own.

    \b
    Example
      wellspring propagation reprioritize CHANGE_ID --lane bulk --weight 10
    """
    if not lane and weight is None:
        raise click.UsageError("give --lane, --weight or both")
    with to.client() as client:
        root = client.propagation.reprioritize(change_id, lane=lane, weight=weight or 0)
    to.out.object(roots.told(root), f"{roots.summary(root)}, in lane {root.lane} with weight {root.weight}")


def _step(step: pb.ExplainResponse.Step) -> dict[str, Any]:
    return {
        "time": iso(step.time),
        "decision": pb.ExplainResponse.Step.Decision.Name(step.decision).removeprefix("DECISION_").lower(),
        "root": step.root.id,
        "root_resource": step.root.resource,
        "input": {"resource": step.input.resource, "aspect": step.input.aspect},
        "path": list(step.path),
        "changed_at": step.changed_at,
        "rendered_at": step.rendered_at,
        "rendered_version": step.rendered_version.hex(),
        "note": step.note,
    }
