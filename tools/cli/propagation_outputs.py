"""`wellspring propagation rerender`, `outputs`, `costs` and `purge`: pages by hand, and what they cost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from google.rpc import code_pb2  # type: ignore[import-untyped]

from tools.cli.failures import BAD_DATA, FAILED, NOT_FOUND, Failure
from tools.cli.following import follow
from tools.cli.output import Row, counted
from tools.cli.target import Target, target_options
from tools.cli.values import utf8, version
from wellspring_client import Output

_STATES = ("pending", "dead-letter", "retrying", "fresh")


@click.command()
@click.argument("view", callback=utf8)
@click.argument("resources", nargs=-1, callback=utf8)
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="Names of resources, one a line.")
@click.option("--all", "everything", is_flag=True, help="All that the view has rendered.")
@click.option("--publish-unchanged", is_flag=True, help="Store and purge pages whose bytes are the same, too.")
@click.option("--id", "change_id", help="The id of the change that begins: the same again begins nothing.")
@click.option("--lane", default="", help="Its lane.")
@click.option("--reason", default="", callback=utf8, help="For whoever looks at it.")
@click.option("--wait", is_flag=True, help="Follow it to its end.")
@target_options
def rerender(
    to: Target,
    view: str,
    resources: tuple[str, ...],
    file: Path | None,
    everything: bool,
    publish_unchanged: bool,
    change_id: str | None,
    lane: str,
    reason: str,
    wait: bool,
) -> None:
    """Render pages again without a change: after a repair by hand, a restored store, a renderer's release.

    \b
    Examples
      wellspring propagation rerender html enwiki/page/Earth enwiki/page/Moon --wait
      wellspring propagation rerender html --all --publish-unchanged --lane bulk --reason "restored store"
    """
    names = [*resources, *(_names(file) if file is not None else [])]
    if everything == bool(names):
        raise click.UsageError("name RESOURCES, or a --file of them, or say --all")
    with to.client() as client:
        answer = client.propagation.admin.rerender(
            view,
            None if everything else names,
            id=change_id,
            publish_unchanged=publish_unchanged,
            lane=lane,
            reason=reason,
        )
        for name in answer.unknown:
            to.out.note(f"{view} does not cover {name}")
        if not answer.root:
            told = {"root": "", "pages": 0, "unknown": list(answer.unknown)}
            to.out.object(told, "there was nothing to render")
            if answer.unknown:
                raise Failure(f"none of the resources is covered by {view}", NOT_FOUND)
            return
        if wait:
            follow(to, client, answer.root, 0.2)
            return
    told = {"root": answer.root, "pages": answer.pages, "unknown": list(answer.unknown)}
    to.out.object(told, f"{counted(answer.pages, 'page')} to render as change {answer.root}")


@click.command()
@click.argument("view", callback=utf8)
@click.option("--state", type=click.Choice(_STATES), help="Only those in this state.")
@click.option("--prefix", default="", callback=utf8, help="Only resources that begin so.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@target_options
def outputs(to: Target, view: str, state: str | None, prefix: str, limit: int) -> None:
    """List what the engine believes of a view's pages: hash and version of the last render, and what they wait for.

    \b
    Examples
      wellspring propagation outputs html --prefix enwiki/page/E
      wellspring propagation outputs html --state pending --limit 1000 --json
    """

    def rows() -> Iterator[Row]:
        for one in client.propagation.admin.outputs(view):
            if one.resource.startswith(prefix) and state in (None, *_states(one)):
                cells = (one.resource, ", ".join(_states(one)), one.version.hex(), one.hash.hex())
                yield _told(one), cells

    with to.client() as client:
        listed = (row for row, _ in zip(rows(), range(limit), strict=False))
        to.out.table(["resource", "state", "version", "hash"], listed, f"no such outputs of {view}")


@click.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
@target_options
def costs(to: Target, limit: int) -> None:
    """What rendering cost, by who caused it: the most expensive first.

    \b
    Example
      wellspring propagation costs --limit 5
    """

    def rows() -> Iterator[Row]:
        for one, _ in zip(client.propagation.admin.costs(), range(limit), strict=False):
            told = {
                "causer": one.causer,
                "roots": one.roots,
                "rendered": one.rendered,
                "unchanged": one.unchanged,
                "renderer_seconds": round(one.renderer_seconds, 3),
            }
            yield told, (one.causer or "(not named)", *(str(told[name]) for name in list(told)[1:]))

    with to.client() as client:
        columns = ["causer", ">changes", ">rendered", ">unchanged", ">renderer seconds"]
        to.out.table(columns, rows(), "nothing was rendered yet")


@click.command()
@click.option("--url", callback=utf8, help="One page, by its address.")
@click.option("--tag", callback=utf8, help="All pages that carry a tag.")
@click.option("--resource", callback=utf8, help="What the views purge for a resource.")
@click.option("--min-version", callback=version, help="What is at least so new may stay: 32 hexadecimal digits.")
@target_options
def purge(to: Target, url: str | None, tag: str | None, resource: str | None, min_version: bytes | None) -> None:
    """Purge every cache by hand, and say what each answered. Status 1 when one did not acknowledge.

    \b
    Examples
      wellspring propagation purge --resource enwiki/page/Earth
      wellspring propagation purge --tag template-cite
    """
    if sum(one is not None for one in (url, tag, resource)) != 1:
        raise click.UsageError("give one of --url, --tag and --resource")
    with to.client() as client:
        answer = client.propagation.admin.purge(url=url, tag=tag, resource=resource, min_version=min_version or b"")
    rows: list[Row] = []
    for result in answer.results:
        state = "purged" if not result.status.code else code_pb2.Code.Name(result.status.code)
        told = {"cache": result.cache, "state": state, "message": result.status.message}
        rows.append((told, (result.cache, state, result.status.message)))
    to.out.table(["cache", "state", "message"], rows, "no caches are configured")
    failed = sum(1 for result in answer.results if result.status.code)
    if failed:
        raise Failure(f"{counted(failed, 'cache')} did not acknowledge the purge", FAILED)


def _names(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise Failure(f"{file} is not UTF-8", BAD_DATA) from None
    names = [line for line in lines if line]
    if not names:
        raise Failure(f"{file} names no resource", BAD_DATA)
    return names


def _states(one: Output) -> list[str]:
    flags = {"pending": one.pending, "dead-letter": one.dead_letter, "retrying": one.retrying}
    return [name for name, is_so in flags.items() if is_so] or ["fresh"]


def _told(one: Output) -> dict[str, Any]:
    return {
        "resource": one.resource,
        "hash": one.hash.hex(),
        "version": one.version.hex(),
        "pending": one.pending,
        "dead_letter": one.dead_letter,
        "retrying": one.retrying,
    }
