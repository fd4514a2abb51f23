"""`wellspring storage`: records put, read, deleted, scanned and watched."""

import datetime
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tools.cli.failures import NOT_FOUND, Failure
from tools.cli.output import counted, iso, shown, textual
from tools.cli.output import size as size_text
from tools.cli.storage_care import inspect, mirror, rebucket, usage
from tools.cli.storage_export import export_namespace, import_namespace
from tools.cli.storage_migrate import migrate
from tools.cli.storage_namespaces import namespaces
from tools.cli.storage_new import new
from tools.cli.storage_operations import operations
from tools.cli.storage_snapshots import snapshots
from tools.cli.target import Target, target_options
from tools.cli.values import duration, utf8
from wellspring.storage.v1 import storage_pb2 as pb

_OUTCOMES = {value: name.removeprefix("OUTCOME_").lower() for name, value in pb.Outcome.items()}


@click.group()
def storage() -> None:
    """Namespaces and their records."""


_MORE = (
    namespaces,
    snapshots,
    operations,
    export_namespace,
    import_namespace,
    usage,
    inspect,
    rebucket,
    mirror,
    new,
    migrate,
)
for command in _MORE:
    storage.add_command(command)


@storage.command()
@click.argument("namespace", callback=utf8)
@click.argument("record", callback=utf8)
@click.argument("value", required=False, callback=utf8)
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="The value is this file's content.")
@click.option("--key", default="", callback=utf8, help="The item in the record; a flat record has one, without a key.")
@click.option("--content-type", default="", help='A media type, such as "text/plain".')
@click.option("--ttl", callback=duration, help="Expires after so long: 90s, 15m, 12h, 30d.")
@click.option("--if-absent", is_flag=True, help="Only when nothing is there (CAS namespaces).")
@click.option("--if-etag", help="Only when this is what is there (CAS namespaces).")
@target_options
def put(
    to: Target,
    namespace: str,
    record: str,
    value: str | None,
    file: Path | None,
    key: str,
    content_type: str,
    ttl: datetime.timedelta | None,
    if_absent: bool,
    if_etag: str | None,
) -> None:
    """Store a value: given as VALUE, with --file, or on standard input.

    \b
    Examples
      wellspring storage put notes monday "water the plants"
      wellspring storage put pages Main_Page --file main.html --content-type text/html
      date | wellspring storage put notes now
    """
    data = _value(value, file)
    with to.client() as client:
        receipt = client.storage.namespace(namespace).put(
            record,
            data,
            key=key,
            content_type=content_type,
            ttl=ttl,
            if_absent=if_absent,
            if_etag=if_etag,
        )
    to.out.object(_receipt(receipt), _receipt_text(receipt, "stored"))


@storage.command()
@click.argument("namespace", callback=utf8)
@click.argument("record", callback=utf8)
@click.option("--key", default="", callback=utf8, help="The item in the record.")
@click.option("--all", "whole", is_flag=True, help="All items of the record, as a table.")
@target_options
def get(to: Target, namespace: str, record: str, key: str, whole: bool) -> None:
    """Print a value, byte for byte; with --json what is known of it as well.

    \b
    Examples
      wellspring storage get notes monday
      wellspring storage get notes monday --json
      wellspring storage get users ann --all
    """
    with to.client() as client:
        records = client.storage.namespace(namespace)
        if whole:
            _items(to, records.items(record), record)
            return
        item = records.get(record, key)
        if item is None:
            raise Failure(f'namespace "{namespace}" has no "{record}"{f" with key {key!r}" if key else ""}', NOT_FOUND)
        chunks = records.download(record, key) if item.chunked and not to.out.as_json else None
        if to.out.as_json:
            to.out.object(_item(item) | textual("value", item.value))
        elif chunks is None:
            click.echo(item.value, nl=False)
        else:
            for piece in chunks:
                click.echo(piece.chunk, nl=False)


@storage.command()
@click.argument("namespace", callback=utf8)
@click.argument("record", callback=utf8)
@click.option("--key", "keys", multiple=True, callback=utf8, help="Only this item; may be given more than once.")
@click.option("--allow-missing", is_flag=True, help="It is no mistake when nothing is there.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and leave it.")
@target_options
def delete(to: Target, namespace: str, record: str, keys: tuple[str, ...], allow_missing: bool, dry_run: bool) -> None:
    """Delete a record, or single items of it.

    \b
    Examples
      wellspring storage delete notes monday
      wellspring storage delete users ann --key email --dry-run
    """
    with to.client() as client:
        receipt = client.storage.namespace(namespace).delete(
            record, keys=list(keys) or None, allow_missing=allow_missing, dry_run=dry_run
        )
    text = f"{counted(receipt.deleted_items, 'item')} {'would be deleted' if dry_run else 'deleted'}"
    to.out.object(_receipt(receipt), text)


@storage.command()
@click.argument("namespace", callback=utf8)
@click.option("--prefix", default="", callback=utf8, help="Only records whose keys begin so.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Records at most.")
@click.option("--all", "everything", is_flag=True, help="No limit.")
@click.option("--keys-only", is_flag=True, help="Without values.")
@target_options
def scan(to: Target, namespace: str, prefix: str, limit: int, everything: bool, keys_only: bool) -> None:
    """List records in the order of their keys.

    \b
    Examples
      wellspring storage scan notes
      wellspring storage scan html --prefix A --keys-only
      wellspring storage scan html --all --json > pages.jsonl
    """
    more = False

    def rows() -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
        nonlocal more
        found = client.storage.namespace(namespace).scan(prefix=prefix or None, omit_values=keys_only)
        for count, record in enumerate(found):
            if count >= limit and not everything:
                more = True
                return
            items = [_item(item) | ({} if keys_only else textual("value", item.value)) for item in record.items]
            size = sum(item.size_bytes or len(item.value) for item in record.items)
            yield (
                textual("record", record.key) | {"items": items},
                (shown(record.key), str(len(record.items)), size_text(size), shown(record.value)),
            )

    with to.client() as client:
        to.out.table(["record", ">items", ">size", "value"], rows(), f'no record in "{namespace}"')
    if more:
        to.out.note(f"there are more than {limit}: --limit, --prefix or --all")


@storage.command()
@click.argument("namespace", callback=utf8)
@click.option("--from-beginning", is_flag=True, help="From the oldest change that is kept.")
@click.option("--resume", default="", help="Go on after an earlier answer (its resume_token).")
@click.option("--limit", type=click.IntRange(1), help="End after so many changes.")
@target_options
def watch(to: Target, namespace: str, from_beginning: bool, resume: str, limit: int | None) -> None:
    """Print changes as they happen, until Ctrl-C.

    \b
    Examples
      wellspring storage watch notes
      wellspring storage watch notes --from-beginning --json
    """
    count = 0
    with to.client() as client:
        feed = client.storage.namespace(namespace).watch(resume_token=resume, from_beginning=from_beginning)
        to.out.note("watching; Ctrl-C ends")
        for answer in feed:
            for event in answer.events:
                count += 1
                to.out.object(_change(event) | {"resume_token": answer.resume_token}, _change_text(event))
                sys.stdout.flush()
                if count == limit:
                    return


def _value(value: str | None, file: Path | None) -> bytes:
    if value is not None and file is not None:
        raise click.UsageError("give VALUE or --file, not both")
    if value is not None:
        return value.encode()
    return file.read_bytes() if file is not None else sys.stdin.buffer.read()


def _items(to: Target, items: Iterator[pb.Item], record: str) -> None:
    rows = (
        (
            _item(item) | textual("value", item.value),
            (shown(item.key) or '""', size_text(item.size_bytes or len(item.value)), shown(item.value)),
        )
        for item in items
    )
    if not to.out.table(["key", ">size", "value"], rows, ""):
        raise Failure(f'there is no "{record}"', NOT_FOUND)


def _item(item: pb.Item) -> dict[str, Any]:
    told: dict[str, Any] = textual("key", item.key)
    told |= {"content_type": item.content_type, "etag": item.etag, "version": item.version.hex()}
    told |= {"size_bytes": item.size_bytes or len(item.value), "write_time": iso(item.write_time)}
    if item.HasField("expire_time"):
        told["expire_time"] = iso(item.expire_time)
    return told | ({"attributes": dict(item.attributes)} if item.attributes else {})


def _receipt(receipt: pb.Receipt) -> dict[str, Any]:
    told: dict[str, Any] = {"outcome": _OUTCOMES[receipt.outcome], "version": receipt.version.hex()}
    told["etag"] = receipt.etag
    told |= {"deleted_items": receipt.deleted_items} if receipt.deleted_items else {}
    return told | ({"change_id": receipt.change_id} if receipt.change_id else {})


def _receipt_text(receipt: pb.Receipt, done: str) -> str:
    outcome = _OUTCOMES[receipt.outcome]
    said = done if outcome == "applied" else f"{done} ({outcome})"
    follow = f"\nfollow it: wellspring propagation watch {receipt.change_id}" if receipt.change_id else ""
    return f"{said}, etag {receipt.etag}{follow}"


def _change(event: pb.ChangeEvent) -> dict[str, Any]:
    items = [
        textual("key", item.key) | {"deleted": item.deleted, "size_bytes": item.size_bytes} for item in event.items
    ]
    told: dict[str, Any] = textual("record", event.record)
    told |= {"time": iso(event.time), "version": event.version.hex(), "created": event.created}
    told |= {"deleted": event.deleted, "items": items, "annotations": dict(event.annotations)}
    return told | ({"change_id": event.change_id} if event.change_id else {})


def _change_text(event: pb.ChangeEvent) -> str:
    what = "deleted" if event.deleted else "created" if event.created else "changed"
    size = sum(item.size_bytes for item in event.items)
    return f"{iso(event.time)}  {what}  {shown(event.record)}  {size_text(size)}"
