"""`wellspring storage usage`, `inspect`, `rebucket`, `mirror`: what a namespace holds, what hurts, where it goes."""

from typing import Any, Final

import click

from tools.cli.failures import FAILED, Failure
from tools.cli.output import counted, plain, shown, textual
from tools.cli.output import size as size_text
from tools.cli.storage_operations import follow, told
from tools.cli.target import Target, target_options
from tools.cli.values import utf8
from wellspring.storage.v1 import storage_admin_pb2 as pb

_SHOWN: Final = 20
_KINDS: Final = {
    number: name.removeprefix("KIND_").lower().replace("_", " ")
    for name, number in pb.InspectNamespaceResponse.Finding.Kind.items()
}


@click.command()
@click.argument("namespace", callback=utf8)
@target_options
def usage(to: Target, namespace: str) -> None:
    """Show what a namespace holds, and how much it is asked for.

    \b
    Example
      wellspring storage usage notes
    """
    with to.client() as client:
        found = client.storage.usage(namespace)
    values: dict[str, Any] = {
        "records": found.records,
        "items": found.items,
        "bytes": found.bytes,
        "exact": found.exact,
    }
    values |= {"reads_per_s": round(found.reads_per_s, 3), "writes_per_s": round(found.writes_per_s, 3)}
    text = (
        f"{counted(found.records, 'record')}, {counted(found.items, 'item')}, {size_text(found.bytes)};"
        f" {found.reads_per_s:,.1f} reads and {found.writes_per_s:,.1f} writes a second"
    )
    to.out.object(values, text)


@click.command()
@click.argument("namespace", callback=utf8)
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="Findings of each kind.")
@target_options
def inspect(to: Target, namespace: str, limit: int) -> None:
    """Name the records that are wide, hot, full of deletes, or have big values; with advice.

    \b
    Example
      wellspring storage inspect notes
    """
    with to.client() as client:
        answer = client.storage.inspect(namespace, limit=limit, timeout=max(to.timeout_s, 60.0))
    rows = ((_told(one), _cells(one)) for one in answer.findings)
    looked = f"{counted(answer.records_sampled, 'record')} looked at"
    to.out.table(["kind", "record", ">items", ">size", "advice"], rows, f"nothing to be said; {looked}")
    if answer.findings:
        to.out.note(looked)


@click.command()
@click.argument("namespace", callback=utf8)
@click.argument("records", nargs=-1, callback=utf8)
@click.option("--no-wait", is_flag=True, help="Answer once it has begun; follow it by its name.")
@target_options
def rebucket(to: Target, namespace: str, records: tuple[str, ...], no_wait: bool) -> None:
    """Spread wide records over more buckets, where the backend has them: those named, or those that inspect finds.

    \b
    Examples
      wellspring storage rebucket wiki
      wellspring storage rebucket wiki Main_Page
    """
    with to.client() as client:
        begun = client.storage.rebucket(namespace, list(records))
        if no_wait:
            to.out.object(told(begun), f"begun: wellspring storage operations wait {begun.name}")
            return
        report = follow(to.out, client, begun).rebucket
    values = {"records": report.records, "buckets_before": report.buckets_before, "buckets_after": report.buckets_after}
    text = f"{counted(report.records, 'record')}: {report.buckets_before} buckets before, {report.buckets_after} after"
    to.out.object(values, text)


@click.command()
@click.argument("namespace", callback=utf8)
@click.argument("backend", callback=utf8)
@click.option(
    "--compare", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Share of records read on both."
)
@click.option("--no-wait", is_flag=True, help="Answer once it has begun; follow it by its name.")
@target_options
def mirror(to: Target, namespace: str, backend: str, compare: float, no_wait: bool) -> None:
    """Copy a namespace onto another backend of the server's configuration, and compare the two.

    Run it again to go on from what is there. Fails when the two differ.

    \b
    Example
      wellspring storage mirror notes cluster --compare 0.1
    """
    with to.client() as client:
        begun = client.storage.mirror(namespace, backend, compare=compare)
        if no_wait:
            to.out.object(told(begun), f"begun: wellspring storage operations wait {begun.name}")
            return
        report = follow(to.out, client, begun).mirror
    differing = [
        textual("record", one.record) | textual("key", one.item_key) | {"what": one.what} for one in report.differences
    ]
    values = {"compared": report.compared, "different": report.different, "differences": differing}
    to.out.object(values, f"{counted(report.compared, 'record')} compared, {report.different:,} different")
    for one in report.differences[:_SHOWN]:
        to.out.line(f"  {shown(one.record)} {shown(one.item_key)}: {one.what}")
    if report.different:
        raise Failure(f"{counted(report.different, 'record')} different", FAILED, "MIRROR_DIFFERS")


def _told(one: pb.InspectNamespaceResponse.Finding) -> dict[str, Any]:
    return plain(one) | textual("record", one.record) | {"kind": _KINDS[one.kind], "items": one.items}


def _cells(one: pb.InspectNamespaceResponse.Finding) -> tuple[str, ...]:
    return _KINDS[one.kind], shown(one.record), f"{one.items:,}", size_text(one.bytes), one.advice
