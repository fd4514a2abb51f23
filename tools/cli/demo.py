"""`wellspring demo`: the main job on real pages, proved by a judge of its own."""

import asyncio
import functools
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Final

import click

from tools.cli import roots
from tools.cli.failures import FAILED, Failure
from tools.cli.output import Output, Row
from tools.cli.running import running
from tools.cli.target import json_option
from tools.demo import sample, wiki
from tools.demo.scenario import Result, Scenario
from tools.platform import ports
from tools.platform.layout import fixed_ports
from tools.platform.platform import Platform
from wellspring.propagation.v1 import propagation_pb2 as pb

_WORDS: Final = {
    "pages": "pages imported, rendered and read through the cache",
    "edges": "dependencies that rendering them declared",
    "dependents": "pages that depend on the edited template, by the judge's own count",
    "rendered": "pages rendered with new bytes after the edit",
    "unchanged": "renders cut off when the same text was saved again",
    "purged": "pages purged from the gateway's cache by the edit",
    "stale": "dependents that a reader still gets in their old version",
    "lost": "pages that a reader does not get any more",
    "touched": "other pages that changed though they should not",
    "seconds": "seconds for all of it",
}


@click.command()
@json_option
@click.option("--once", is_flag=True, help="End when it is done; without it the platform stays up.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="A new or empty directory, kept afterwards; without it a temporary one.",
)
@click.option("--dump", type=click.Path(path_type=Path, dir_okay=False), help="Another MediaWiki XML export.")
@click.option(
    "--port-base",
    type=click.IntRange(0, 65_000),
    default=0,
    show_default=True,
    help="The first port; 0 takes free ones.",
)
def demo(out: Output, once: bool, data: Path | None, dump: Path | None, port_base: int) -> None:
    """See one edit reach every page that depends on it.

    Starts the platform in a fresh directory, imports 206 real Wikipedia pages, warms the gateway's cache, edits the
    most used template as a logged-in editor, and proves page by page, through the cache, that every dependent is fresh
    and nothing else was touched. Status 1 when a page is stale or lost.

    \b
    Examples
      wellspring demo --once
      wellspring demo --once --json
      wellspring demo --data /tmp/demo --port-base 7101
    """
    export = dump if dump is not None else sample.find()
    temporary = None if data is not None else Path(tempfile.mkdtemp(prefix="wellspring-demo-"))
    folder = (data or temporary or Path()).absolute()
    try:
        _refuse_old(folder)
        layout = wiki.layout(folder, fixed_ports(port_base or ports.free_base()))
        out.note(f"starting the platform in {folder}")
        with running(folder, layout, out, "ERROR") as platform:
            result = _run(out, platform, export)
            if not once:
                _report(out, result)
                _stay(out, platform, result)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    if once:
        # After everything else: a program reads the last line.
        _report(out, result)
    if not result.good:
        raise Failure(_wrong(result), FAILED)


def _wrong(result: Result) -> str:
    """What is wrong with a run."""
    return f"{result.stale} pages are stale, {result.lost} lost, {result.touched} touched that should not be"


def _refuse_old(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise Failure(f"--data: {folder} is not empty, and the demo begins in a fresh directory; name a new one")


def _run(out: Output, platform: Platform, export: Path) -> Result:
    console = out.console(stderr=True)
    bars = _Bars(out) if console.is_terminal and not out.as_json else None

    async def play() -> Result:
        # Made on the loop that runs it: its connections belong to that.
        tell = functools.partial(click.echo, err=True)
        if bars is None:
            return await Scenario(platform.addresses, export, tell=tell).run()
        return await Scenario(
            platform.addresses, export, tell=tell, on_progress=bars.show, on_wait=bars.show_first_renders
        ).run()

    try:
        return asyncio.run(play())
    finally:
        if bars is not None:
            bars.end()


class _Bars:
    """A live bar for the import and for each edit, one after the other."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._bar: roots.LiveBar | None = None
        self._change = ""

    def show(self, root: pb.Root) -> None:
        if self._bar is None or root.change.id != self._change:
            self.end()
            self._change = root.change.id
            self._bar = roots.LiveBar(self._out.console(stderr=True)).__enter__()
        self._bar.show(root)
        if root.state in roots.FINISHED:
            self.end()

    def show_first_renders(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = roots.LiveBar(self._out.console(stderr=True)).__enter__()
        self._bar.count("first renders of all pages", done, total)
        if done == total:
            self.end()

    def end(self) -> None:
        if self._bar is not None:
            self._bar.__exit__()
            self._bar = None


def _report(out: Output, result: Result) -> None:
    if out.as_json:
        out.object(result.summary())
        return
    told = result.summary() | {"touched": result.touched}
    rows: list[Row] = [({}, (name, f"{told[name]:,}", words)) for name, words in _WORDS.items()]
    out.line("")
    out.table(["", ">measured", "what"], rows, "")
    verdict = f"every dependent of Template:{result.template} is fresh, no other page was touched"
    out.line("\n" + (click.style(verdict, fg="green") if result.good else click.style(_wrong(result), fg="red")))


def _stay(out: Output, platform: Platform, result: Result) -> None:
    data = platform.layout.data
    record = wiki.record(f"Template:{result.template}")
    # As the user has called it.
    program = "./bazelw run //:wellspring --" if "BUILD_WORKSPACE_DIRECTORY" in os.environ else "wellspring"
    page = wiki.path(f"Template:{result.template}")
    out.note(
        f"""
the platform stays up; Ctrl-C ends it. Where to look:
  pages        http://{platform.addresses["http"]}{page}
  metrics      http://{platform.addresses["http"]}/metrics
  engine       {program} propagation status --data {data}
  one page     {program} propagation explain {wiki.resource("Anarchism")} {wiki.PAGES} --data {data}
  edit again   {program} propagation edit {wiki.SOURCES} {record} "again" --data {data}
  logs         {data}/logs"""
    )
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        out.note("draining")
