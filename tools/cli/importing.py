"""`wellspring import`: a MediaWiki export into a namespace, page by page, and again where it stopped.

Each page carries its revision as an attribute of what is stored: a second run skips what is there already, so that an
import that was interrupted goes on by running it again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.wiki import dump, titles
from examples.wiki.dump import Page
from tools.cli.failures import BAD_DATA, Failure
from tools.cli.output import Output, counted
from tools.cli.target import Target, target_options
from tools.cli.values import utf8
from wellspring_client.errors import InvalidRequest, WellspringError
from wellspring_client.storage_types import Put
from wellspring_client.sync import Namespace

_BATCH_PAGES: Final = 100
_MOST_NAMED: Final = 20
_WIKITEXT: Final = "text/x-wiki; charset=utf-8"


@dataclass
class _Tally:
    stored: int = 0
    skipped: int = 0
    bytes: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return self.stored + self.skipped + len(self.refused)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("namespace", callback=utf8)
@click.option("--create", is_flag=True, help="Make the namespace when it is not there.")
@click.option("--bind", "prefix", callback=utf8, help="With --create: changes are propagation's, as PREFIX + title.")
@click.option("--no-check", is_flag=True, help="Begin before the whole file has been read once.")
@target_options
def import_pages(to: Target, file: Path, namespace: str, create: bool, prefix: str | None, no_check: bool) -> None:
    """Import a MediaWiki XML export (plain, .bz2 or .gz) into a namespace: a record for each page, named by its title.

    The file is read to its end once before anything is stored, so that a damaged one changes nothing. Run it again to
    go on after an interruption: pages that are there in the same revision are skipped.

    \b
    Examples
      wellspring import enwiki-pages-articles.xml.bz2 wiki --create --bind enwiki/page/
      wellspring import more.xml wiki --json
    """
    if prefix is not None and not create:
        raise click.UsageError("--bind is for a namespace that is made: give --create as well")
    tally = _Tally()
    with to.client() as client:
        if create:
            client.storage.create_namespace(namespace, resource_prefix=prefix, description=f"imported from {file.name}")
        else:
            client.storage.get_namespace(namespace)
        total = None if no_check else dump.check(file).pages
        records = client.storage.namespace(namespace)
        with _Bar(to.out, total) as advance:
            for batch in _batches(dump.read(file)):
                _store(records, batch, tally)
                advance(tally)
    _report(to.out, tally)


def _batches(pages: Iterator[Page]) -> Iterator[list[Page]]:
    while batch := list(islice(pages, _BATCH_PAGES)):
        yield batch


def _store(records: Namespace, pages: list[Page], tally: _Tally) -> None:
    """Stores those that are not there yet. Raises what the store raises, but for a page that it refuses."""
    named: dict[str, Page] = {}
    for page in pages:
        try:
            named[titles.parse(page.title).key] = page
        except titles.InvalidTitle as error:
            tally.refused.append((page.title, str(error)))
    there = records.get_many(list(named))
    todo = {}
    for (record, page), item in zip(named.items(), there, strict=True):
        if item is not None and page.revision_id and item.attributes.get("revision") == str(page.revision_id):
            tally.skipped += 1
        else:
            todo[record] = page
    outcomes = records.put_many(
        [(record, _put(page)) for record, page in todo.items()], annotations={"cause": "import"}
    )
    for page, outcome in zip(todo.values(), outcomes, strict=True):
        if isinstance(outcome, InvalidRequest):
            tally.refused.append((page.title, outcome.message))
        elif isinstance(outcome, WellspringError):
            raise outcome
        else:
            tally.stored += 1
            tally.bytes += len(page.text.encode())


def _put(page: Page) -> Put:
    attributes = {"revision": str(page.revision_id), "page": str(page.page_id), "timestamp": page.timestamp}
    return Put(page.text.encode(), content_type=_WIKITEXT, attributes=attributes)


class _Bar:
    """A progress bar on a terminal; nothing elsewhere."""

    def __init__(self, out: Output, total: int | None) -> None:
        console = out.console(stderr=True)
        columns = (TextColumn("importing"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, disable=out.as_json or not console.is_terminal)
        self._task = self._progress.add_task("importing", total=total)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __call__(self, tally: _Tally) -> None:
        self._progress.update(self._task, completed=tally.seen)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _report(out: Output, tally: _Tally) -> None:
    refused = [{"title": title, "why": why} for title, why in tally.refused]
    told = {"stored": tally.stored, "skipped": tally.skipped, "bytes": tally.bytes, "refused": refused}
    text = f"{counted(tally.stored, 'page')} stored, {tally.skipped:,} were there already"
    out.object(told, text)
    for one in refused[:_MOST_NAMED]:
        out.line(f"  not stored: {one['title']}: {one['why']}")
    if refused:
        raise Failure(f"{counted(len(refused), 'page')} not stored", BAD_DATA)
