"""`wellspring propagation audit`: how fresh readers' pages are, and how store, graph and caches agree."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import click
from google.protobuf.duration_pb2 import Duration

from libs.clock.clock import SystemClock
from libs.purge.caches import Caches
from services.propagation.auditor.adapters import GrpcEngine, GrpcPages
from services.propagation.auditor.auditor import Auditor, Outside, SweepOptions
from services.propagation.auditor.http_caches import HttpCaches
from services.propagation.auditor.sampling import SamplingOptions
from services.propagation.auditor.state import CURSOR, FRESHNESS, REPORT, StateDirectory, read_object
from services.propagation.auditor.turn import Turn
from tools.cli.failures import FAILED, NOT_FOUND, Failure
from tools.cli.output import Output, Row, counted
from tools.cli.target import Target, target_options
from wellspring.config.v1 import propagation_pb2
from wellspring_client.calls import Caller
from wellspring_client.channels import Channels

_REPAIR_WAIT_S = 600.0
_LOOK_S = 5.0


@click.command()
@click.option("--once", is_flag=True, help="Sweep now, from this command, and wait for what is repaired.")
@click.option("--repair/--no-repair", default=True, show_default=True, help="With --once: mend what differs.")
@click.option(
    "--pages-per-s",
    type=click.FloatRange(0, 1_000_000),
    default=500.0,
    show_default=True,
    help="With --once: how fast; 0 as fast as it goes.",
)
@click.option(
    "--cache-share",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="With --once: the share of the pages that is looked at in the caches too.",
)
@click.option(
    "--cache",
    "caches",
    multiple=True,
    metavar="NAME=URL",
    help="With --once: a cache as readers reach it, inner before outer; the platform's gateway when none is given.",
)
@click.option(
    "--path",
    type=click.Path(path_type=Path, file_okay=False),
    help="The auditor's directory, when it is not the one under --data.",
)
@target_options
def audit(
    to: Target,
    once: bool,
    repair: bool,
    pages_per_s: float,
    cache_share: float,
    caches: tuple[str, ...],
    path: Path | None,
) -> None:
    """What the auditor last reported; with --once a sweep of all pages, now.

    Status 1 when differences were found and left as they are.

    \b
    Examples
      wellspring propagation audit
      wellspring propagation audit --once
      wellspring propagation audit --once --no-repair --cache edge=http://10.0.0.7:80 --json
    """
    if not once:
        _tell_last(to.out, path or to.data / "auditor")
        return
    options = SweepOptions(pages_per_s, 0.0, cache_share)
    turn = asyncio.run(_sweep(to, options, repair, _targets(to, caches), _progress(to.out)))
    _tell_turn(to.out, turn.told())
    counts = turn.tally.counts
    if left := counts["not_repaired"] + counts["cache_not_repaired"] + counts["problems"]:
        raise Failure(f"of what was found, {left:,} was left as it is", FAILED)


def _targets(to: Target, given: tuple[str, ...]) -> list[propagation_pb2.CacheTarget]:
    named = []
    for one in given or (f"gateway=http://{to.addresses['http']}",):
        name, equals, url = one.partition("=")
        if not name or not equals or not url.startswith("http://"):
            raise click.UsageError(f"--cache: {one!r} is not NAME=http://HOST:PORT")
        target = propagation_pb2.CacheTarget(
            name=name, urls=[url], max_concurrency=16, pipeline=1, timeout=Duration(seconds=int(_LOOK_S))
        )
        named.append(target)
    return named


async def _sweep(
    to: Target,
    options: SweepOptions,
    repair: bool,
    targets: list[propagation_pb2.CacheTarget],
    tell: Callable[[Turn], None],
) -> Turn:
    try:
        layers = Caches.of(targets)
    except ValueError as error:
        raise click.UsageError(f"--cache: {error}") from None
    caches = HttpCaches(layers)
    engine, storage = Channels([to.addresses["propagation"]], tls=None), Channels([to.addresses["storage"]], tls=None)
    with tempfile.TemporaryDirectory(prefix="wellspring-audit-") as folder:
        state = StateDirectory(folder).open()
        outside = Outside(
            GrpcEngine(Caller(engine, to.timeout_s, dict)),
            GrpcPages(Caller(storage, to.timeout_s, dict)),
            caches.instances,
            SystemClock(),
            Random(),  # noqa: S311  chooses what is looked at, guards nothing
            lambda: os.urandom(8).hex(),
            state,
        )
        auditor = Auditor(outside, SamplingOptions(0.0, (1.0,), 0.0), options, repair=repair, tell=tell)
        try:
            turn = await auditor.sweeper.one_turn()
            if not await auditor.repairs.settled(_REPAIR_WAIT_S):
                to.out.note("the last repair is still under way: wellspring propagation changes --state active")
            return turn
        finally:
            state.close()
            await caches.close()
            await engine.close()
            await storage.close()


def _progress(out: Output) -> Callable[[Turn], None]:
    """A line that moves, where somebody looks."""
    console = out.console(stderr=True)
    if out.as_json or not console.is_terminal:
        return lambda turn: None

    def tell(turn: Turn) -> None:
        counts = turn.tally.counts
        found = sum(turn.findings.values())
        text = f"{counts['pages']:,} pages, {counts['items_scanned']:,} stored items, {found:,} findings"
        console.print(f"\r{text}", end="", style="dim")

    return tell


def _tell_last(out: Output, path: Path) -> None:
    freshness, report, cursor = (read_object(path / name) for name in (FRESHNESS, REPORT, CURSOR))
    last = Turn.of(report) if report is not None else None
    under_way = Turn.of(cursor) if cursor is not None else None
    if freshness is None and last is None and under_way is None:
        raise Failure(
            f"there is no report in {path}: `wellspring serve auditor` writes it; --once sweeps from here", NOT_FOUND
        )
    if out.as_json:
        told = {"freshness": freshness, "sweep": last.told() if last else None}
        out.object(told | {"under_way": under_way.told() if under_way else None})
        return
    rows: list[Row] = [
        ({}, (r["cache"], r["delay"], str(r["fresh"]), str(r["stale"]), _percent(r["fresh_share"])))
        for r in (freshness or {}).get("shares", [])
    ]
    out.table(["cache", "after", ">fresh", ">stale", ">share fresh"], rows, "no page was looked at yet")
    if last is not None:
        out.line("")
        _tell_turn(out, last.told())
    if under_way is not None:
        pages = under_way.tally.counts["pages"]
        out.line(f"\nturn {under_way.number} is under way: {counted(pages, 'page')} compared, now {under_way.at}")


def _tell_turn(out: Output, told: dict[str, Any]) -> None:
    if out.as_json:
        out.object(told)
        return
    counts, findings = told["counts"], told["findings"]
    differ = sum(findings.values())
    out.line(
        f"turn {told['turn']}, ended {told['ended']}: {counted(counts.get('pages', 0), 'page')} in "
        f"{told['seconds']:.0f} s, {counted(differ, 'difference')}, {counts.get('repaired', 0):,} repaired, "
        f"{counts.get('cache_stale', 0):,} stale in caches, {counts.get('cache_repaired', 0):,} of them repaired"
    )
    shown = {**{kind: count for kind, count in findings.items() if count}, **counts}
    rows: list[Row] = [({}, (name.replace("_", " "), f"{count:,}")) for name, count in shown.items() if count]
    out.table(["what", ">count"], rows, "")
    examples: list[Row] = [
        ({}, (one["kind"], one["where"], one["resource"], one["detail"])) for one in told["examples"]
    ]
    if examples:
        out.table(["kind", "where", "page", "detail"], examples, "")
    for problem in told["problems"]:
        out.line(f"{problem['where']} was not swept: {problem['what']}")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.4g} %"
